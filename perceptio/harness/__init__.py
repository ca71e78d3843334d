"""Adapters to the evaluation harnesses of the field; `docs/harnesses.md` shows how to use them.

`lmms_eval` and `vlmevalkit` each adapt a model to one harness, and are the only modules that import it. Both answer
through `responder`. `refcoco_task` works in the other direction: it makes referring segmentation a task of lmms-eval.
"""

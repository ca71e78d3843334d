"""Perceptio's models in the harnesses that the field compares models with; `docs/harnesses.md` shows how.

`lmms_eval` and `vlmevalkit` adapt a model to one harness each, and are the only ones to import it. Both answer
through `responder`. `refcoco_task` is the other way round: referring segmentation as a task of lmms-eval.
"""

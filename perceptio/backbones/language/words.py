"""Stop-gap words tokenizer."""
from perceptio.interfaces import ChatTemplate
import re
class WordsTokenizer:
    template = ChatTemplate(user="<|user|>", assistant="<|assistant|>", end="<|end|>")
    def __init__(self, words):
        self.specials = ["<|user|>", "<|assistant|>", "<|end|>"]
        self.pieces = self.specials + [chr(i) for i in range(32, 127)] + [" " + w for w in words] + [w for w in words if len(w) > 1]
        self.id = {p: i for i, p in enumerate(self.pieces)}
        self.end_id = 2
    def encode(self, text):
        out = []
        for m in re.finditer(r" ?\w+|[^\w]", text):
            p = m.group(0)
            if p in self.id: out.append(self.id[p])
            else: out += [self.id[c] for c in p if c in self.id]
        return out
    def encode_template(self, text): return [self.id[text]]
    def decode(self, ids): return "".join(self.pieces[i] for i in ids if i >= 3 and i < len(self.pieces))
    def save(self, folder): folder.mkdir(parents=True, exist_ok=True)

"""Stands in for vLLM in tests: the same names, tokens made up from prompt and seed, and faults to order.

FAKE_VLLM holds a JSON object: `record` (a file to which everything asked of it is appended), `start_error`,
`die_after` (completions), `refuse` (a prompt's first id), `abort` (likewise), `child` (start a process that stays).
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

__version__ = "9.9.9"

FAULTS = json.loads(os.environ.get("FAKE_VLLM", "{}"))


def record(**facts):
    if "record" in FAULTS:
        with open(FAULTS["record"], "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"pid": os.getpid(), **facts}) + "\n")


def token(prompt, seed, place, size):
    """The token at a place of a completion."""
    digest = hashlib.sha256(json.dumps([prompt, seed, place]).encode()).digest()
    return int.from_bytes(digest[:4], "big") % size


class SamplingParams:
    def __init__(self, *, n, max_tokens, temperature, top_p, seed, ignore_eos, stop_token_ids, detokenize):
        assert n == 1 and ignore_eos and not detokenize
        assert (seed is None) == (temperature == 0)
        self.max_tokens, self.seed, self.ends = max_tokens, seed, set(stop_token_ids)
        self.facts = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens, "seed": seed}


class Engine:
    def __init__(self, rows, length, size):
        self.rows, self.length, self.size = rows, length, size
        self.live = {}
        self.done = 0

    def add_request(self, key, prompt, params):
        ids = prompt["prompt_token_ids"]
        record(asked=key, prompt=ids, **params.facts)
        if ids[0] == FAULTS.get("refuse"):
            raise ValueError("this prompt\nis refused")
        assert len(ids) < self.length
        self.live[key] = (ids, params, [])

    def has_unfinished_requests(self):
        return bool(self.live)

    def step(self):
        """One more token for each row; outputs in another order than that of asking."""
        outputs = []
        for key in reversed(list(self.live)[: self.rows]):
            ids, params, tokens = self.live[key]
            tokens.append(token(ids, params.seed, len(tokens), self.size))
            reason = "stop" if tokens[-1] in params.ends else "length" if len(tokens) == params.max_tokens else None
            if reason is not None and ids[0] == FAULTS.get("abort"):
                reason = "abort"
            found = types.SimpleNamespace(token_ids=tokens, finish_reason=reason)
            outputs.append(types.SimpleNamespace(request_id=key, finished=reason is not None, outputs=[found]))
            if reason is not None:
                del self.live[key]
                self.done += 1
                if self.done > FAULTS.get("die_after", 10**9):
                    print("the last words\n  File nothing\nSomeError: it broke\x1b[31m", file=sys.stderr, flush=True)
                    os.kill(os.getpid(), signal.SIGKILL)
        return outputs


class LLM:
    def __init__(self, model, **arguments):
        path = [name for name in sys.path if name.endswith("sampling")]
        record(arguments=arguments, model=model, environment=dict(os.environ), path=path)
        if "start_error" in FAULTS:
            print("Traceback (most recent call last):\n  a source line\nWhyError: no such head size", file=sys.stderr)
            raise RuntimeError(FAULTS["start_error"])
        if FAULTS.get("child"):
            record(child=subprocess.Popen(["sleep", "600"]).pid)
        settings = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        self.llm_engine = Engine(arguments["max_num_seqs"], arguments["max_model_len"], settings["vocab_size"])

"""Samples with vLLM for another process. Imports the standard library and vllm alone: vLLM may live elsewhere.

Standard input has JSON lines: first `arguments` (of vllm.LLM) and `ends` (ids), then a line for every completion:
`key`, `prompt` (ids), `seed` and `decoding`. The file descriptor that the command names gets JSON lines: `versions`
once vLLM is ready, then `key`, `tokens` (ids) and `finish` for each completion as it finishes. An `error` takes their
place. When standard input ends, this process and all that it started end.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any

# The folder of this file has modules with the names of other packages, such as `requests`.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]


class Worker:
    def __init__(self, output: int) -> None:
        os.set_inheritable(output, False)  # what vLLM starts must not keep it open
        self.output = os.fdopen(output, "w", encoding="utf-8")
        self.lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        # a copy, so that nothing else can read the lines
        self.input = os.fdopen(os.dup(0), encoding="utf-8")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in self.input:
            self.lines.put(json.loads(line))
        # vLLM's own processes may outlive this one. They are in its group if this process leads one.
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    def tell(self, **message: Any) -> None:
        self.output.write(json.dumps(message) + "\n")
        self.output.flush()

    def run(self) -> None:
        header = self.lines.get()
        try:
            import vllm

            llm = vllm.LLM(**header["arguments"])
        except BaseException as error:
            self.tell(error=describe(error))
            raise
        self.tell(versions={"vllm": vllm.__version__})
        self.vllm, self.engine, self.ends = vllm, llm.llm_engine, header["ends"]
        while True:
            self.take()
            for output in self.engine.step():
                if output.finished:
                    found = output.outputs[0]
                    self.tell(key=output.request_id, tokens=list(found.token_ids), finish=found.finish_reason)

    def take(self) -> None:
        """Add all requests that wait. Without an unfinished one, wait for the next."""
        while not (self.lines.empty() and self.engine.has_unfinished_requests()):
            request = self.lines.get()
            try:
                prompt = {"prompt_token_ids": request["prompt"]}
                self.engine.add_request(request["key"], prompt, self.parameters(request))
            except Exception as error:
                self.tell(key=request["key"], error=describe(error))

    def parameters(self, request: dict[str, Any]) -> Any:
        decoding = request["decoding"]
        return self.vllm.SamplingParams(
            n=1,
            max_tokens=decoding["max_new_tokens"],
            temperature=decoding["temperature"],
            top_p=decoding["top_p"],
            seed=request["seed"],
            # the ends alone decide, not those that vLLM reads from the checkpoint
            ignore_eos=True,
            stop_token_ids=self.ends,
            detokenize=False,
        )


def describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    Worker(int(sys.argv[1])).run()

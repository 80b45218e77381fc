"""Shared by the stages that use a model: loading, encoding, requests, the device."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..config import Config
from ..config.schema import EvaluateConfig, SampleConfig
from ..encoding import TextEncoder
from ..errors import ConfigError
from ..model import attach_lora, generation_ends, load_model, load_tokenizer, merge_lora, pad_id
from ..progress import say
from ..prompts import check_template_kwargs
from ..quantised import dequantised, load_quantised, quantise, quantization_arguments
from ..records import Question
from ..sampling.engine import Engine
from ..sampling.openai_engine import OpenaiEngine
from ..sampling.requests import Request, make_seeds
from ..sampling.transformers_engine import TransformersEngine
from ..sampling.vllm_engine import VllmEngine
from ..scoring.entries import Encoder, reference_entries
from ..scoring.forward import enable_scoring
from ..scoring.packing import Entry
from ..sizes import check_ids, check_length, positions_of
from .engines import open_openai, open_vllm
from .plan import Plan, Unit


@dataclass(frozen=True)
class Stage:
    """The tools of a stage. `plan`: the run's plan; `cpu`: this process computes on the CPU."""

    plan: Plan
    cpu: bool

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self.plan.config

    def tokenizer(self, checkpoint: str) -> PreTrainedTokenizerBase:
        """The tokenizer of a checkpoint."""
        model = self.config.model
        revision = None if Path(checkpoint).is_dir() else model.revision
        tokenizer = load_tokenizer(
            checkpoint,
            revision=revision,
            trust_remote_code=model.trust_remote_code,
            gguf_file=self.plan.gguf_file(checkpoint),
        )
        if self.config.prompt.chat and tokenizer.chat_template is None:
            raise ConfigError(f"prompt.chat: the tokenizer of '{checkpoint}' has no chat template; set it to false")
        check_template_kwargs(self.config.prompt.template_kwargs, str(tokenizer.chat_template))
        return tokenizer

    def model(self, checkpoint: str, *, inference: bool = False) -> PreTrainedModel:
        """The model of a checkpoint as training or inference uses it: in its dtype, or in 4 bits.

        An adapter is merged into its base model. In inference in 4 bits it stays in front of it, and those below it
        are merged before the 4 bits, as when it was trained.
        """
        section = self.config.model
        base, arguments = self.plan.base_of(checkpoint), self._quantization
        if arguments is None or (inference and not (section.quantization and section.quantization.inference)):
            dtype = section.inference_dtype if inference and section.inference_dtype else section.dtype
            if base is None:
                return load_model(checkpoint, dtype=dtype, **self._load(checkpoint))
            whole = self.whole_model(checkpoint)
            return whole if dtype in ("auto", section.dtype) else whole.to(getattr(torch, dtype))
        if base is None:
            return load_quantised(checkpoint, arguments, self.device, dtype=section.dtype, **self._load(checkpoint))
        if inference:
            adapted: Any = attach_lora(self.model(base), checkpoint)
            return adapted
        return quantise(self.whole_model(checkpoint), arguments, self.device)

    def whole_model(self, checkpoint: str) -> PreTrainedModel:
        """The model of a checkpoint in the dtype of training, with nothing in 4 bits. An adapter is merged."""
        base = self.plan.base_of(checkpoint)
        if base is None:
            return load_model(checkpoint, dtype=self.config.model.dtype, **self._load(checkpoint))
        return merge_lora(self.model_under_adapter(base), checkpoint)

    def model_under_adapter(self, checkpoint: str) -> PreTrainedModel:
        """The model of a checkpoint with the weights that an adapter meets in training.

        If training holds them in 4 bits, they are what the 4 bits say, in the dtype of training.
        """
        whole = self.whole_model(checkpoint)
        if self._quantization is None:
            return whole
        return dequantised(whole, quantise(whole, self._quantization, self.device))

    @property
    def _quantization(self) -> dict[str, Any] | None:
        model = self.config.model
        section = model.quantization
        return None if section is None else quantization_arguments(dataclasses.asdict(section), model.dtype)

    def _load(self, checkpoint: str) -> dict[str, Any]:
        model = self.config.model
        return {
            "revision": None if Path(checkpoint).is_dir() else model.revision,
            # this attention is used for sampling and padded batches, which `varlen` does not support
            "attn_implementation": None if model.attn_implementation == "varlen" else model.attn_implementation,
            "trust_remote_code": model.trust_remote_code,
            "gguf_file": self.plan.gguf_file(checkpoint),
        }

    def texts(self, tokenizer: PreTrainedTokenizerBase, checkpoint: str | None = None) -> TextEncoder:
        """Texts as token ids, with the run's prompt. It decides how a response of the checkpoint's model ends.

        The model is not loaded. None: a model that has no ends of its own.
        """
        prompt = self.config.prompt
        return TextEncoder(
            tokenizer,
            prompt.template,
            chat=prompt.chat,
            system=prompt.system,
            date=prompt.date,
            variables=prompt.template_kwargs,
            allow_special_tokens=prompt.allow_special_tokens,
            model_ends=self._ends_of(checkpoint) if checkpoint else (),
        )

    def _ends_of(self, checkpoint: str) -> list[int]:
        model = self.config.model
        return generation_ends(
            checkpoint,
            revision=None if Path(checkpoint).is_dir() else model.revision,
            trust_remote_code=model.trust_remote_code,
            gguf_file=self.plan.gguf_file(checkpoint),
        )

    def encoder(self, texts: TextEncoder, *, limited: bool = True) -> Encoder:
        """An encoder with the run's maximum length. `limited=False`: no maximum, for scoring."""
        return Encoder(
            texts,
            max_length=self.config.model.max_length if limited else 2**31,
            overlong=self.config.model.overlong,
        )

    def requests(
        self,
        texts: TextEncoder,
        questions: Sequence[Question],
        indices: Sequence[int],
        *,
        purpose: str,
        seed: int,
    ) -> list[Request]:
        """Requests for the completions `indices` of every question. `purpose` and `seed` determine their seeds."""
        return [
            Request(q.id, tuple(texts.prompt(q.question)), make_seeds(q.id, indices, purpose, seed)) for q in questions
        ]

    @property
    def device(self) -> torch.device:
        """The device on which this process computes."""
        from accelerate import PartialState

        return torch.device("cpu") if self.cpu else PartialState().device

    def enable_scoring(self, model: torch.nn.Module) -> None:
        """Enable scoring of responses, with the run's memory limits for logits."""
        section = self.config.model
        enable_scoring(
            model,
            chunk_bytes=section.logps_chunk_mb * 2**20,
            keep_bytes=section.logps_keep_mb * 2**20,
            attn_implementation=section.attn_implementation,
        )


@dataclass
class Inference:
    """A checkpoint to sample from and to score. The model is loaded once, when it is first needed."""

    stage: Stage
    checkpoint: str

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's tokenizer."""
        return self.stage.tokenizer(self.checkpoint)

    @functools.cached_property
    def model(self) -> PreTrainedModel:
        """The checkpoint's model in the inference dtype, on the device, in evaluation mode."""
        return self.stage.model(self.checkpoint, inference=True).to(self.stage.device).eval()

    @property
    def is_loaded(self) -> bool:
        """True if something has needed the model."""
        return "model" in vars(self)

    @functools.cached_property
    def texts(self) -> TextEncoder:
        """Texts as token ids of the checkpoint's tokenizer."""
        return self.stage.texts(self.tokenizer, self.checkpoint)

    @contextlib.contextmanager
    def engine(
        self, unit: Unit, section: SampleConfig | EvaluateConfig, questions: Iterable[Question]
    ) -> Iterator[Engine]:
        """The engine that samples from the checkpoint. Everything it holds except `model` is freed at the end.

        `questions`: at least all that will be sampled. Only the transformers engine uses `model`.
        """
        if section.engine == "transformers":
            yield TransformersEngine(
                self.model, self.tokenizer, section.batch_size, section.batching, ends=self.texts.ends
            )
            return
        opened: OpenaiEngine | VllmEngine
        if section.engine == "openai":
            name = section.model if isinstance(section, SampleConfig) else unit.name or ""
            opened = open_openai(unit, section.openai, name, self.checkpoint, self.texts)
        else:
            stage, gguf = self.stage, self.stage.plan.gguf_file(self.checkpoint)
            opened = open_vllm(
                stage.config, unit, section, self.checkpoint, self.texts, questions, cpu=stage.cpu, gguf_file=gguf
            )
        with opened as engine:
            yield engine

    def tell_counts(self, unit: Unit) -> None:
        """Print what was out of the ordinary in the texts that were encoded."""
        if line := self.texts.summary():
            say(f"{unit}: {line}")


def references(stage: Stage, questions: Sequence[Question], encoder: Encoder) -> list[Entry]:
    task = stage.plan.task
    triples = [(q.id, q.question, task.reference_response(q)) for q in questions if q.rationale is not None]
    return reference_entries(triples, encoder)


def check_sizes(model: torch.nn.Module, texts: TextEncoder, entries: Sequence[Entry]) -> None:
    """Raise `ConfigError` if the model has no embedding for an id, or no position for the longest sequence."""
    config: Any = model.config
    settings = config.get_text_config(decoder=True).to_dict()
    rows = [(item.prompt_ids, response) for entry in entries for item in entry for response in item.responses]
    largest = max((max([*prompt, *response], default=0) for prompt, response in rows), default=0)
    check_ids({"the end": texts.end, "padding": pad_id(texts.tokenizer)}, largest, settings["vocab_size"])
    longest = max((len(prompt) + len(response) for prompt, response in rows), default=0)
    check_length(longest, positions_of(settings), "a sequence", "model.max_length")

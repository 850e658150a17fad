"""Find the member of a create call that an upstream takes another member for, so that a key's policy holds for both.

An upstream reads names in its own way, and the gateway passes on unread what it does not know. Two kinds of names
reach a member that a policy limits: other spellings of it, and names that vendors gave to the same thing.
"""

import unicodedata
from collections.abc import Mapping
from typing import Literal, TypeAlias

from app.wire.requests.create import MEMBERS

Vendor: TypeAlias = Literal["model", "max_output_tokens"]

# Each name, with the vendors that use it.
_VENDORS: Mapping[str, Vendor] = {
    # Other models, or what chooses one.
    "models": "model",  # OpenRouter: fallbacks, tried in turn
    "fallbacks": "model",  # LiteLLM, Vercel AI Gateway: idem
    "fallback_models": "model",  # Portkey and others: idem
    "context_window_fallbacks": "model",  # LiteLLM: idem, for a prompt that is too long
    "content_policy_fallbacks": "model",  # LiteLLM: idem, for one that is refused
    "route": "model",  # OpenRouter: "fallback" takes what `models` names
    "provider": "model",  # OpenRouter: who serves it, at which price and precision
    "provider_options": "model",  # Vercel AI Gateway: `gateway.models` in it
    "preset": "model",  # OpenRouter: a model with its parameters under a name
    "plugins": "model",  # OpenRouter: its router among them chooses a model
    "engine": "model",  # OpenAI's name before 2023; Azure
    "deployment": "model",  # Azure
    "deployment_id": "model",  # Azure
    "model_id": "model",  # Bedrock, watsonx, Hugging Face
    "model_name": "model",  # TorchServe, LangChain
    "base_model": "model",  # LiteLLM, LoRA servers
    "adapter_id": "model",  # Text Generation Inference, LoRAX: another model's weights
    "lora_request": "model",  # vLLM: idem
    "lora_path": "model",  # SGLang: idem
    "custom_llm_provider": "model",  # LiteLLM: who serves it
    "api_base": "model",  # LiteLLM: another server altogether
    "base_url": "model",  # LiteLLM: idem
    # The limit of the output.
    "max_tokens": "max_output_tokens",  # Chat Completions; most servers take it everywhere
    "max_completion_tokens": "max_output_tokens",  # Chat Completions, since o1
    "max_new_tokens": "max_output_tokens",  # Hugging Face, Text Generation Inference, SGLang
    "max_tokens_to_sample": "max_output_tokens",  # Anthropic's first API
    "max_gen_len": "max_output_tokens",  # Llama on Bedrock
    "max_length": "max_output_tokens",  # Hugging Face
    "max_output_length": "max_output_tokens",  # idem
    "num_predict": "max_output_tokens",  # Ollama
    "n_predict": "max_output_tokens",  # llama.cpp
    "n": "max_output_tokens",  # Chat Completions: so many answers, each with the limit
    "best_of": "max_output_tokens",  # Completions, vLLM: idem
    "num_generations": "max_output_tokens",  # Cohere: idem
}

# Objects whose members vendors take as if they stood beside them: any of the above may be in there.
_ENVELOPES = (
    "extra_body",  # OpenAI's SDK merges it before it sends; LiteLLM does where somebody sends it all the same
    "extra_params",  # LangChain, LiteLLM
    "optional_params",  # LiteLLM
    "litellm_params",  # LiteLLM
    "model_kwargs",  # LangChain
    "model_parameters",  # Azure AI
    "additional_model_request_fields",  # Bedrock Converse
    "inference_config",  # Bedrock Converse: maxTokens
    "generation_config",  # Gemini: maxOutputTokens
    "parameters",  # Hugging Face, Vertex AI, DashScope
    "options",  # Ollama: num_predict
    "sampling_params",  # SGLang
    "body",  # batch lines: a whole call
    "request",  # Gemini's batches: idem
    "response",  # OpenAI's older WebSocket events: idem
)


def normalized_name(name: str) -> str:
    """Normalize a name as the most forgiving readers do: letters and digits alone, without case, width or accents.

    Go's encoding/json takes U+017F for s and U+212A for k, Java's equalsIgnoreCase U+0131 for i, .NET and Jackson any
    case; protocol buffers take `maxOutputTokens` for `max_output_tokens`.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).upper().casefold())
    return "".join(filter(str.isalnum, plain))


_BY_NORMALIZED: Mapping[str, tuple[str, ...]] = {
    **{normalized_name(name): ("model", "max_output_tokens") for name in _ENVELOPES},
    **{normalized_name(name): (member,) for name, member in _VENDORS.items()},
    **{normalized_name(name): (name,) for name in MEMBERS},
}


def synonym_of(name: str) -> tuple[str, ...]:
    """Return the members that an upstream may take this name for; the name is none of `create.MEMBERS` itself."""
    return _BY_NORMALIZED.get(normalized_name(name), ())

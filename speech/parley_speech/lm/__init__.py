"""Token language models: text deltas in, speech tokens out as they are sampled.

    text ─ `words` ─ `interleave` ─ `vllm_engine` or `transformers_engine` ─ tokens
           to ids    what is fed when      `sampling`

`interleave` and `sampling` are pure; an engine knows nothing of the model's sequence layout;
`stream` joins them for one utterance. Nothing here imports torch, vLLM or transformers before it
is started.
"""

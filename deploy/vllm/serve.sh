#!/bin/sh
# vLLM for Parley on one GPU. Why each option: README.md beside this file.
#
#   MODEL=Qwen/Qwen3-8B ./serve.sh            (PORT, TOOL_PARSER, MAX_MODEL_LEN, ... as below)
set -eu

MODEL="${MODEL:?set MODEL to a chat model, for example Qwen/Qwen3-8B}"
PORT="${PORT:-8000}"
TOOL_PARSER="${TOOL_PARSER:-hermes}"
MAX_MODEL_LEN="${MAX_MODEL_LEN:-16384}"
MAX_NUM_SEQS="${MAX_NUM_SEQS:-128}"

exec vllm serve "$MODEL" \
  --host 0.0.0.0 --port "$PORT" ${VLLM_API_KEY:+--api-key "$VLLM_API_KEY"} \
  --max-model-len "$MAX_MODEL_LEN" \
  --max-num-seqs "$MAX_NUM_SEQS" \
  --max-num-batched-tokens "${MAX_BATCHED_TOKENS:-2048}" \
  --enable-prefix-caching --enable-prompt-tokens-details \
  --scheduling-policy priority \
  --enable-auto-tool-choice --tool-call-parser "$TOOL_PARSER" \
  --structured-outputs-config '{"backend":"xgrammar","disable_any_whitespace":true}' \
  --gpu-memory-utilization "${GPU_SHARE:-0.90}" \
  "$@"

#!/usr/bin/env python3
"""The forward pass in double precision over the dequantised file: what every fast form is compared
with.

Written to be read beside the formulas, with nothing shared with the C sources. Weights take the
values that the file holds exactly; every sum, norm, angle and softmax is float64.

    reference.py --model FILE --tokens 1,2,3|@FILE --output OUT.npy [--rows last|all]
"""

import argparse
import math
import pathlib

import numpy as np

from gguf_tensors import Weights


ARCHITECTURES = (
    "deepseek2",
    "llama",
    "llama4",
    "mistral3",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
)


class Shape:
    """The numbers of a model, from its keys."""

    def __init__(self, weights):
        self.arch = weights.key("general.architecture")
        if self.arch not in ARCHITECTURES:
            raise ValueError(f"architecture {self.arch}; known: {' '.join(ARCHITECTURES)}")

        def key(name, default=None):
            value = weights.key(f"{self.arch}.{name}", default)
            if value is None:
                raise ValueError(f"the file has no key {self.arch}.{name}")
            return value

        self.layers = key("block_count")
        self.width = key("embedding_length")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv", self.heads)
        self.head_dim = key("attention.key_length", self.width // self.heads)
        self.eps = key("attention.layer_norm_rms_epsilon")
        self.rope_dims = key("rope.dimension_count", self.head_dim)
        self.rope_base = key("rope.freq_base", 10000.0)
        self.scaling = key("rope.scaling.type", "linear")
        self.factor = key("rope.scaling.factor", 1.0) or 1.0
        self.context = key("context_length")
        self.original_context = key("rope.scaling.original_context_length", self.context)
        self.attn_factor = key("rope.scaling.attn_factor", 1.0)
        self.experts = key("expert_count", 0)
        self.experts_used = key("expert_used_count", 0)
        self.yarn_log = key("rope.scaling.yarn_log_multiplier", 0.0)
        self.yarn_fast = key("rope.scaling.yarn_beta_fast", 32.0)
        self.yarn_slow = key("rope.scaling.yarn_beta_slow", 1.0)
        self.window = key("attention.sliding_window", 0)
        self.window_pattern = key("attention.sliding_window_pattern", 0)
        self.temperature = key("attention.temperature_scale", 0.0)
        self.temperature_length = key("attention.temperature_length", self.original_context)
        self.gating = key("expert_gating_func", 1)  # 2: sigmoid
        self.groups = key("expert_group_count", 1)
        self.groups_used = key("expert_group_used_count", self.groups)
        self.weights_norm = key("expert_weights_norm", self.arch in ("llama", "qwen3moe"))
        self.weights_scale = key("expert_weights_scale", 1.0)
        if self.arch == "deepseek2":
            self.rank = key("attention.kv_lora_rank")
            self.head_dim = key("attention.key_length_mla", self.head_dim)
            value_dim = key("attention.value_length", self.head_dim)
            self.value_dim = key("attention.value_length_mla", value_dim)
        if self.arch == "llama4":
            self.gating = 2
            self.window = key("attention.chunk_size", 8192)
            self.window_pattern = key("attention.sliding_window_pattern", 4)
            self.temperature = key("attention.temperature_scale", 0.1)
            self.temperature_length = key("attention.temperature_length", 8192)

    def sees_everything(self, layer):
        period = self.window_pattern
        return self.window == 0 or (period > 0 and (layer + 1) % period == 0)

    def first_seen(self, layer, positions):
        """The first position that a query at each of these sees."""
        if self.sees_everything(layer):
            return np.zeros_like(positions)
        if self.arch == "llama4":
            return positions // self.window * self.window
        return np.maximum(0, positions - self.window + 1)

    def growth(self, layer, positions):
        """What queries of these positions are multiplied by."""
        offset = 0
        if self.arch == "llama4":
            if not self.sees_everything(layer):
                return np.ones(len(positions))
            offset = 1
        return 1 + self.temperature * np.log(1 + (positions + offset) // self.temperature_length)


def yarn_ramp(shape):
    """0 where a pair keeps its own frequency, 1 where it is fully interpolated."""
    n = shape.rope_dims

    def corner(rotations):
        return (
            n
            * math.log(shape.original_context / (2 * math.pi * rotations))
            / (2 * math.log(shape.rope_base))
        )

    low = max(0, math.floor(corner(shape.yarn_fast)))
    high = min(n - 1, math.ceil(corner(shape.yarn_slow)))
    return np.clip((np.arange(n // 2) - low) / max(0.001, high - low), 0, 1)


def rope_frequencies(shape, weights):
    """Angle of each pair per position, and the multiplier of cos and sin."""
    theta = float(shape.rope_base) ** (-2 * np.arange(shape.rope_dims // 2) / shape.rope_dims)
    if weights.has("rope_freqs.weight"):
        theta = theta / weights.tensor("rope_freqs.weight").astype(np.float64)
    if shape.scaling == "none":
        return theta, shape.attn_factor
    if shape.scaling == "linear":
        return theta / shape.factor, shape.attn_factor
    if shape.scaling != "yarn":
        raise ValueError(
            f"rope.scaling.type {shape.scaling}: this reference knows none, linear and yarn"
        )
    ramp = yarn_ramp(shape)
    theta = theta / shape.factor * ramp + theta * (1 - ramp)

    def gain(m):
        return 1.0 if shape.factor <= 1 else 0.1 * m * math.log(shape.factor) + 1

    multiplier = gain(1) if shape.yarn_log == 0 else gain(1) / gain(shape.yarn_log)
    if shape.arch == "deepseek2" and shape.yarn_log != 0:  # scores grow instead: score_growth
        multiplier = 1.0
    return theta, multiplier * shape.attn_factor


def score_growth(shape):
    """What DeepSeek multiplies scores by: mscale(s, mscale_all_dim) squared. Files hold a tenth of
    mscale_all_dim."""
    if shape.arch != "deepseek2" or shape.scaling != "yarn" or shape.factor <= 1:
        return 1.0
    return (0.1 * 10 * shape.yarn_log * math.log(shape.factor) + 1) ** 2


def rotate(x, angles, multiplier, adjacent):
    """x [tokens, heads, dims]: turns the pairs (2k, 2k + 1), or those half of the turned dims
    apart; dims behind pass."""
    cos, sin = np.cos(angles)[:, None, :] * multiplier, np.sin(angles)[:, None, :] * multiplier
    pairs = angles.shape[1]
    first = slice(0, 2 * pairs, 2) if adjacent else slice(0, pairs)
    second = slice(1, 2 * pairs, 2) if adjacent else slice(pairs, 2 * pairs)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., first] * sin + x[..., second] * cos
    return out


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def softmax(x):
    exps = np.exp(x - x.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


class Reference:
    """page_dtype rounds keys and values as pages of that type would; float64 leaves them exact."""

    def __init__(self, path, page_dtype=np.float64):
        self.weights = Weights(path)
        self.shape = Shape(self.weights)
        self.page_dtype = page_dtype

    def _tensor(self, name):
        return self.weights.tensor(name).astype(np.float64)

    def _linear(self, x, name):
        y = x @ self._tensor(f"{name}.weight").T
        if self.weights.has(f"{name}.bias"):
            y += self._tensor(f"{name}.bias")
        return y

    def _queries_keys_values(self, h, block):
        s = self.shape
        if self.weights.has(f"{block}.attn_qkv.weight"):
            ends = np.cumsum([s.heads * s.head_dim, s.kv_heads * s.head_dim])
            parts = np.split(self._linear(h, f"{block}.attn_qkv"), ends, axis=1)
        else:
            parts = [self._linear(h, f"{block}.attn_{letter}") for letter in "qkv"]
        return [part.reshape(len(h), -1, s.head_dim) for part in parts]

    def _turned(self, x, layer, letter, angles, multiplier):
        """A head of q or k as attention meets it, but for the queries' growth."""
        s = self.shape
        if s.arch == "llama4" and s.sees_everything(layer):
            return x
        if s.arch in ("qwen3", "qwen3moe"):
            x = rms_norm(x, self._tensor(f"blk.{layer}.attn_{letter}_norm.weight"), s.eps)
        x = rotate(x, angles, multiplier, not s.arch.startswith("qwen"))
        return rms_norm(x, 1.0, s.eps) if s.arch == "llama4" else x

    def _latent_heads(self, block):
        """Of each head: what makes its keys of the latent vector [heads, nope, rank], and its
        values [heads, value, rank]."""
        s, nope = self.shape, self.shape.head_dim - self.shape.rope_dims
        if self.weights.has(f"{block}.attn_k_b.weight"):
            keys = self._tensor(f"{block}.attn_k_b.weight").transpose(0, 2, 1)
            return keys, self._tensor(f"{block}.attn_v_b.weight")
        joined = self._tensor(f"{block}.attn_kv_b.weight").reshape(s.heads, -1, s.rank)
        return joined[:, :nope], joined[:, nope:]

    def _latent_attention(self, h, layer, angles, multiplier):
        """DeepSeek's, as it was trained: keys and values of each head are made of the latent."""
        s, n, block = self.shape, len(h), f"blk.{layer}"
        positions, nope = np.arange(n), s.head_dim - s.rope_dims
        if self.weights.has(f"{block}.attn_q_a.weight"):
            q = self._linear(h, f"{block}.attn_q_a")
            q = rms_norm(q, self._tensor(f"{block}.attn_q_a_norm.weight"), s.eps)
            q = self._linear(q, f"{block}.attn_q_b")
        else:
            q = self._linear(h, f"{block}.attn_q")
        q = q.reshape(n, s.heads, s.head_dim) * s.growth(layer, positions)[:, None, None]
        latent, turning = np.split(self._linear(h, f"{block}.attn_kv_a_mqa"), [s.rank], axis=1)
        latent = rms_norm(latent, self._tensor(f"{block}.attn_kv_a_norm.weight"), s.eps)
        turning = rotate(turning[:, None], angles, multiplier, True)[:, 0]
        latent, turning = (
            kept.astype(self.page_dtype).astype(np.float64) for kept in (latent, turning)
        )
        q_turned = rotate(q[..., nope:], angles, multiplier, True)
        hidden = np.where(positions <= positions[:, None], 0.0, -np.inf)
        scale = score_growth(s) / math.sqrt(s.head_dim)
        key_of, value_of = self._latent_heads(block)
        out = np.empty((n, s.heads, s.value_dim))
        for head in range(s.heads):
            scores = q[:, head, :nope] @ (latent @ key_of[head].T).T
            scores += q_turned[:, head] @ turning.T
            out[:, head] = softmax(scores * scale + hidden) @ (latent @ value_of[head].T)
        return self._linear(out.reshape(n, -1), f"{block}.attn_output")

    def _attention(self, h, layer, angles, multiplier):
        if self.shape.arch == "deepseek2":
            return self._latent_attention(h, layer, angles, multiplier)
        s, n, block = self.shape, len(h), f"blk.{layer}"
        positions = np.arange(n)
        q, k, v = self._queries_keys_values(h, block)
        q = self._turned(q, layer, "q", angles, multiplier)
        q = q * s.growth(layer, positions)[:, None, None]
        k = self._turned(k, layer, "k", angles, multiplier)
        k, v = (kept.astype(self.page_dtype).astype(np.float64) for kept in (k, v))
        seen = (positions <= positions[:, None]) & (
            positions >= s.first_seen(layer, positions)[:, None]
        )
        hidden = np.where(seen, 0.0, -np.inf)
        out = np.empty_like(q)
        for head in range(s.heads):
            kv_head = head * s.kv_heads // s.heads
            scores = q[:, head] @ k[:, kv_head].T / math.sqrt(s.head_dim) + hidden
            out[:, head] = softmax(scores) @ v[:, kv_head]
        return self._linear(out.reshape(n, -1), f"{block}.attn_output")

    def _chosen(self, h, block):
        """Indices of each row's experts, best first, and their weights; ties to the lower index."""
        s, scores = self.shape, self._linear(h, f"{block}.ffn_gate_inp")
        scores = 1 / (1 + np.exp(-scores)) if s.gating == 2 else softmax(scores)
        choice = scores
        if self.weights.has(f"{block}.exp_probs_b.bias"):
            choice = scores + self._tensor(f"{block}.exp_probs_b.bias")
        if s.groups > 1:
            choice = np.where(self._kept(choice), choice, -np.inf)
        chosen = np.argsort(-choice, axis=1, kind="stable")[:, : s.experts_used]
        weights = np.take_along_axis(scores, chosen, axis=1)
        if s.weights_norm:
            weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 2**-14)
        return chosen, weights * s.weights_scale

    def _kept(self, choice):
        """Which experts stand in the groups that are kept: V2 takes a group for its best expert, V3
        (sigmoid) for its best two."""
        s = self.shape
        groups = -np.sort(-choice.reshape(len(choice), s.groups, -1), axis=2)
        worth = groups[:, :, : 2 if s.gating == 2 else 1].sum(axis=2)
        best = np.argsort(-worth, axis=1, kind="stable")[:, : s.groups_used]
        kept = np.zeros((len(choice), s.groups), dtype=bool)
        np.put_along_axis(kept, best, True, axis=1)
        return kept.repeat(groups.shape[2], axis=1)

    def _experts(self, h, block):
        """llama4 multiplies what an expert reads, all others what it gives."""
        chosen, weights = self._chosen(h, block)
        gates, ups, downs = (
            self._tensor(f"{block}.ffn_{part}_exps.weight") for part in ("gate", "up", "down")
        )
        out, before = np.zeros_like(h), self.shape.arch == "llama4"
        for slot in range(self.shape.experts_used):
            for expert in np.unique(chosen[:, slot]):
                rows = chosen[:, slot] == expert
                weight = weights[rows, slot : slot + 1]
                x = h[rows] * weight if before else h[rows]
                gate, up = x @ gates[expert].T, x @ ups[expert].T
                y = (gate / (1 + np.exp(-gate)) * up) @ downs[expert].T
                out[rows] += y if before else weight * y
        return out

    def _gated(self, h, block, end=""):
        gate = self._linear(h, f"{block}.ffn_gate{end}")
        up = self._linear(h, f"{block}.ffn_up{end}")
        return self._linear(gate / (1 + np.exp(-gate)) * up, f"{block}.ffn_down{end}")

    def _feed_forward(self, h, block):
        if not self.weights.has(f"{block}.ffn_gate_inp.weight"):
            return self._gated(h, block)
        out = self._experts(h, block)
        if self.weights.has(f"{block}.ffn_gate_shexp.weight"):
            shared = self._gated(h, block, "_shexp")
            if self.weights.has(f"{block}.ffn_gate_inp_shexp.weight"):
                gate = h @ self._tensor(f"{block}.ffn_gate_inp_shexp.weight")
                shared = shared / (1 + np.exp(-gate))[:, None]
            out = out + shared
        return out

    def logits(self, tokens, rows=None):
        """float64 [len(rows), vocabulary]; rows are positions, all of them if None."""
        s = self.shape
        tokens = np.asarray(tokens)
        theta, multiplier = rope_frequencies(s, self.weights)
        angles = np.arange(len(tokens))[:, None] * theta[None, :]
        embedding = self._tensor("token_embd.weight")
        x = embedding[tokens]
        for layer in range(s.layers):
            block = f"blk.{layer}"
            h = rms_norm(x, self._tensor(f"{block}.attn_norm.weight"), s.eps)
            x = x + self._attention(h, layer, angles, multiplier)
            h = rms_norm(x, self._tensor(f"{block}.ffn_norm.weight"), s.eps)
            x = x + self._feed_forward(h, block)
        if rows is not None:
            x = x[np.asarray(rows)]
        x = rms_norm(x, self._tensor("output_norm.weight"), s.eps)
        if self.weights.has("output.weight"):
            return self._linear(x, "output")
        return x @ embedding.T


def log_sum_exp(logits):
    top = logits.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True)))[..., 0]


def negative_log_likelihoods(logits, tokens):
    """Of token i + 1 given the logits of row i; rows are all positions of tokens."""
    following = np.asarray(tokens)[1:]
    return log_sum_exp(logits[:-1]) - logits[np.arange(len(following)), following]


def parse_tokens(text):
    if text.startswith("@"):
        text = pathlib.Path(text[1:]).read_text()
    return [int(word) for word in text.replace(",", " ").split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", required=True, help="ids, or @FILE of ids")
    parser.add_argument(
        "--output", required=True, help="float32 [rows, vocabulary] in NumPy's format"
    )
    parser.add_argument("--rows", choices=("last", "all"), default="last")
    arguments = parser.parse_args()
    tokens = parse_tokens(arguments.tokens)
    rows = [len(tokens) - 1] if arguments.rows == "last" else None
    np.save(arguments.output, Reference(arguments.model).logits(tokens, rows).astype(np.float32))


if __name__ == "__main__":
    main()

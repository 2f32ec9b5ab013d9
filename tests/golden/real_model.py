#!/usr/bin/env python3
"""What SmolLM2-135M-Instruct (Q4_1) has to say: prompts, greedy answers, logits in double
precision.

The last rows of the three prompts are committed in real_model.npz; the 512 rows of the GPL-3 text
(50 MB as float32) are computed once into the build folder. Run as a program it makes real_model.npz
anew from models/.
"""

import hashlib
import pathlib

import numpy as np

from reference import Reference, parse_tokens

HERE = pathlib.Path(__file__).resolve().parent
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

PROMPTS = {
    "P1": "504 3575 282 4649 314",
    "P2": "1 9690 198 2683 359 253 5356 5646 11173 3365 3511 308 34519 28 7018 411 407 19712 "
    "8182 2 198 1 4093 198 1780 314 260 3575 282 4649 47 2 198 1 520 9531 198",
    "P3": "1604 3987 46477 24 94 727 198",
}
PROMPTS = {name: parse_tokens(ids) for name, ids in PROMPTS.items()}
TEXTS = {
    "P1": "The capital of France is",
    "P2": "What is the capital of France?",  # as a chat of one message
    "P3": "def fibonacci(n):\n",
}

# Greedy continuations by exact arithmetic, up to an end token or 48 tokens, and their least margin
# of the top two.
GREEDY = {
    "P1": "7042 30 198 198 504 2988 314 42 216 34 32 33 40 29 32 33 29 34 34 216 33 34 42 33 34 "
    "42 37 35 30 2",
    "P2": "504 3575 282 4649 314 7042 30 2",
    "P3": "198 1604 3987 46477 24 94 727 472 585 304 10204 216 33 42 448 1003 304 472 1745 42 "
    "448 1003 3987 46477 24 94 731 216 33 25 1232 3987 46477 24 94 731 216 34 25 198 198 "
    "3272 24 38572 46477 24 33 32",
}
GREEDY = {name: parse_tokens(ids) for name, ids in GREEDY.items()}
ANSWERS = {
    "P1": " Paris.\n\nThe answer is: 2018-01-22 12:12:53.",
    "P2": "The capital of France is Paris.",
}

# By llama.cpp on the dequantised copy: (id, logit) of the top five; mean, standard deviation,
# log-sum-exp of all.
TOP_FIVE = {
    "P1": [(7042, 17.37126), (260, 14.88859), (4528, 13.24498), (2250, 13.00947), (1315, 12.95152)],
    "P2": [(504, 25.32540), (60, 25.24329), (15319, 24.94242), (2219, 24.40167), (7026, 24.31464)],
    "P3": [(198, 31.70702), (1604, 31.63779), (3725, 30.52855), (19, 30.44011), (3272, 29.64207)],
}
MOMENTS = {
    "P1": (-1.858293, 3.569247, 17.629344),
    "P2": (6.981222, 3.403141, 27.208109),
    "P3": (14.565536, 3.512228, 33.126526),
}

# The first 512 tokens of Debian's GPL-3 text.
GPL3_IDS_SHA256 = "7fb3d191e5cda175435f8a20e709bd46686099f0a4714728cdf9df40122e1b7c"
GPL3_MEAN_NLL = 2.9356018
GPL3_FIRST_NLL = [15.72785, 9.85966, 5.12869, 7.59095, 1.82336]
GPL3_LAST_NLL = 0.79774


def gpl3_tokens():
    tokens = parse_tokens(f"@{HERE / 'gpl3_512.txt'}")
    digest = hashlib.sha256(np.array(tokens, dtype="<i4").tobytes()).hexdigest()
    if digest != GPL3_IDS_SHA256:
        raise ValueError(f"gpl3_512.txt holds other ids: SHA-256 {digest}")
    return tokens


def prompt_logits():
    """{name: float32 [vocabulary]} of the last position, as committed."""
    with np.load(HERE / "real_model.npz") as arrays:
        return {name: arrays[name] for name in PROMPTS}


def gpl3_logits(model, cache):
    """float32 [512, vocabulary]; computed on the first call (about 20 s) and kept under a name that
    holds its causes."""
    causes = SHA256.encode() + GPL3_IDS_SHA256.encode()
    for source in ("reference.py", "gguf_tensors.py"):
        causes += (HERE / source).read_bytes()
    path = pathlib.Path(cache) / f"gpl3_512-{hashlib.sha256(causes).hexdigest()[:16]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, Reference(model).logits(gpl3_tokens()).astype(np.float32))
        partial.replace(path)
    return np.load(path, mmap_mode="r")


def main():
    model = Reference(HERE.parents[1] / "models" / NAME)
    rows = {
        name: model.logits(ids, [len(ids) - 1])[0].astype(np.float32)
        for name, ids in PROMPTS.items()
    }
    np.savez_compressed(HERE / "real_model.npz", **rows)


if __name__ == "__main__":
    main()

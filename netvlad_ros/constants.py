# SPDX-License-Identifier: MIT
"""Numbers fixed by the paper, by released weights and by file formats, each with its source."""

# Added inside the square root of an L2 norm, as in matconvnet; released weights depend on it.
EPSILON = 1e-12

# Fixed-point weights of R, G and B by which OpenCV's cvtColor makes grey values out of 8-bit images
# (ITU-R BT.601, 15 fractional bits). Weights trained on its grey images need the same rounding.
GREY_WEIGHTS = (9798, 19235, 3735)
GREY_BITS = 15

# GeM's exponent at the start of training (Radenovic et al., Fine-tuning CNN Image Retrieval, section 3.1).
GEM_EXPONENT = 3.0

NANOSECONDS = 1_000_000_000

# Added to the variances that PCA whitening divides by (Relja/netvlad, addPCA.m).
WHITENING_REGULARISATION = 1e-9

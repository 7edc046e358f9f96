# SPDX-License-Identifier: MIT
"""Vectors by number, and the most similar ones to another: the only part that imports Faiss."""

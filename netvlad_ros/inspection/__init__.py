# SPDX-License-Identifier: MIT
"""Networks looked at from inside: what each layer gives, costs, and does otherwise than another network's."""

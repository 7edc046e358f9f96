# SPDX-License-Identifier: MIT
"""Whether two images show one place, and how the camera moved between them. No Keras in here."""

# SPDX-License-Identifier: MIT
"""Loop closures and odometry as pose graphs take them. No Keras in here."""

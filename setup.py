# SPDX-License-Identifier: MIT
"""Serves `pip install .` without ROS; package.xml has the version, pyproject.toml all the rest."""

import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import setup

setup(version=ET.parse(Path(__file__).with_name("package.xml")).findtext("version"))

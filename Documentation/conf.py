# SPDX-License-Identifier: GPL-2.0
# For Sphinx: make htmldocs.
project = "vfio-rs"
highlight_language = "none"

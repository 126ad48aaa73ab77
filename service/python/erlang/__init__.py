# SPDX-License-Identifier: Apache-2.0
"""The Erlang side, as seen from Python code that runs in a worker process."""

from _erlang import Pid, Ref

__all__ = ["Pid", "Ref"]

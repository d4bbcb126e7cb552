"""The compiler that is loaded only when something is compiled."""

from __future__ import annotations

import subprocess
import sys

WHOLE = "torch._dynamo.convert_frame"
BEGIN = f"""
import sys, torch
import tuner.execute.preload
loaded = lambda: {WHOLE!r} in sys.modules
weight = torch.nn.Parameter(torch.ones(2, 2))
def objective():
    return (weight ** 2).sum()
def step(optimizer):
    optimizer.zero_grad()
    objective().backward()
    optimizer.step(objective)
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", BEGIN + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_compiler_is_not_loaded_by_optimizers_of_the_server_that_forks_trials() -> None:
    code = """
for name in ("SGD", "Adam", "AdamW", "Adadelta", "LBFGS", "RMSprop", "NAdam", "RAdam", "Adafactor", "Muon"):
    optimizer = getattr(torch.optim, name)([weight])
    step(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
print(loaded())
"""
    assert python(code).strip() == "False"


def test_code_that_is_compiled_in_a_trial_runs_with_the_whole_compiler() -> None:
    code = """
optimizer = torch.optim.SGD([weight], lr=0.25)
step(optimizer)
before = weight.detach().clone()
compiled = torch.compile(step, backend="eager")
compiled(optimizer)
import torch._dynamo.config
print(loaded(), torch.equal(weight, before / 2), type(torch._dynamo).__name__)
"""
    assert python(code).split() == ["True", "True", "module"]


def test_a_function_that_users_keep_from_the_compiler_is_kept_from_it() -> None:
    code = """
@torch.compiler.disable
def seen():
    return torch.compiler.is_compiling()
print(torch.compile(lambda: (torch.ones(1), seen()), backend="eager")()[1], loaded())
"""
    assert python(code).split() == ["False", "True"]


def test_a_part_of_the_compiler_that_is_imported_first_is_the_one_that_the_compiler_uses() -> None:
    code = """
from torch._dynamo import config as first
import torch._dynamo.config
from torch._dynamo.utils import counters
print(first is torch._dynamo.config, torch._dynamo.utils.counters is counters, loaded())
"""
    assert python(code).split() == ["True", "True", "True"]


def test_a_part_of_the_compiler_is_loaded_once() -> None:
    code = """
import torch._dynamo.utils as first
print(torch._dynamo.convert_frame.counters is first.counters)
"""
    assert python(code).split() == ["True"]

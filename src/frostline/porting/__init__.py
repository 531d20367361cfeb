"""Weights of other frameworks, loaded into a module in four steps: parse, plan, execute, prove.

* Parse: `readers` turn a file into named arrays; `units` group the arrays by layer.
* Plan: `graphs` and `assignment` decide which layer of the file goes into which layer of the module, and `layouts` how
  each tensor is converted; `plan` holds the result.
* Execute: `plan.execution` writes the tensors.
* Prove: `settings`, `interpreter` and `proof` compare the module with the source network; `certificate` is the record.

`scaffold` writes the text of a module from a file that contains an architecture.
"""

from frostline.porting.certificate import Certificate as Certificate

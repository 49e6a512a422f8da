"""Steps of training compiled for one network, one loss and one optimiser, by LLVM.

A dense network's step is a dozen short products with little between them. Called one by one, by whichever library, each
pays for the call, for a pass over memory before and after it, and for threads that start and stop; and a library of
matrix products must be good at every shape. Here one function does the whole step, and many steps in a row, with
products written for the very sizes, the bias and the loss where their numbers lie, and the optimiser moving each weight
when its gradient is still in a register.

::

    refusals ─▶ engine ─▶ plans ─▶ program ─▶ passes ─▶ matrix_products, noise, adam, stochastic, batch_penalties
                                      └─▶ target          └─▶ layout, vectors ─▶ emitter

`refusals` says what is not compiled and why. `plans` says what a program is written for; the formulas of activations,
losses, penalties and corruptions come from `isthmus.choices.formulas`. `passes` has the parts of a step, `program`
their order and how threads share them, `target` the processor. The loop knows `engine` only, which loads the rest, and
with it LLVM, when a program is wanted.
"""

"""Steps of training compiled for one network, one loss and one optimiser, by LLVM.

A dense network's step is a dozen short products with little between them. Called one by one, by whichever library, each
pays for the call, for a pass over memory before and after it, and for threads that start and stop; and a library of
matrix products must be good at every shape. Here one function does the whole step, and many steps in a row, with
products written for the very sizes, the bias and the loss where their numbers lie, and the optimiser moving each weight
when its gradient is still in a register.

::

    vectors ─▶ emitter ─▶ products, noise ─▶ adam, coding, columns ─▶ passes ─▶ program ─▶ running
       └─────▶ formulas ──────────────────────────▲      plans, layout ─▲      machine ─▲

`plans` says what a program is written for, `formulas` has activations, losses and damage number by number, `passes` the
parts of a step, `program` their order and how threads share them. Whoever trains knows `running` only, which loads the
rest, and with it LLVM, when a program is wanted.
"""

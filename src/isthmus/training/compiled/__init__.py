"""Steps of training compiled for one network, one loss and one optimiser, by LLVM.

A dense network's step is a dozen short products with little between them. Called one by one, by whichever library, each
pays for the call, for a pass over memory before and after it, and for threads that start and stop; and a library of
matrix products must be good at every shape. Here one function does the whole step, and many steps in a row, with
products written for the very sizes, the bias and the loss where their numbers lie, and the optimiser moving each weight
when its gradient is still in a register.

::

    machine ─▶ vectors ─▶ emitter ─▶ products ─▶ program ─▶ running
                   └────▶ formulas ──────────────▲

The packages above know `running` only; nothing else imports LLVM, which takes a tenth of a second.
"""

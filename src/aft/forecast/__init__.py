"""Forecasts of a run from its configuration alone: memory, tokens, operations, hours and cost. No weights are read.

hardware      GPUs by name
optimizers    the states that an optimizer keeps
weights       the weights of an architecture, from the meta device
trace         the peak memory of a training step, from two layers without data
memory        bytes of a process: weights, gradients, optimizer, activations, under each way to divide them
work          tokens, operations and seconds of each stage
run           the forecast of a run's stages
advice        which key to change where a stage does not fit
page          the forecast as text
"""

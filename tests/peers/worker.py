#!/usr/bin/python3
"""worker.py MODEL THREADS: one step of a network at each line of standard input, its seconds on standard output.

A line is ROW SIDE BATCH [TOKENS]: unet, unet-bwd (to the text), inversion (text and UNet forward, both backward, AdamW on the
embedding table, as the training script of diffusers does it), vae-decode, vae-encode (both by the side of the latent), text,
text-bwd, train (all weights of the UNet). The first step of each kind is run twice and counted once.
"""
import sys, time

import torch
import torch.nn.functional as F

import networks

model, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(0)
nets, optimizers, seen = {}, {}, set()


def net(name):
    if name not in nets: nets[name] = getattr(networks, 'load_' + name)(model)
    return nets[name]


def optimizer(name, parameters):
    if name not in optimizers:
        for p in parameters: p.requires_grad_(True)
        optimizers[name] = torch.optim.AdamW(parameters, lr=1e-4)
    return optimizers[name]


def step(row, side, batch, tokens):
    """The work as a function without arguments, on inputs made here."""
    if row in ('unet', 'unet-bwd', 'train', 'inversion'):
        unet = net('unet')
        x, noise, t = torch.randn(batch, 4, side, side), torch.randn(batch, 4, side, side), torch.full((batch,), 500)
    if row in ('unet', 'unet-bwd', 'train'):
        context = torch.randn(batch, tokens, unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.in_features)
    if row in ('text', 'text-bwd', 'inversion'):
        text = net('text')
        ids = torch.randint(0, text.vocab, (batch, text.positions))
    if row == 'unet':
        return lambda: unet(x, t, context)
    if row == 'unet-bwd':
        def run():
            F.mse_loss(unet(x, t, context.clone().requires_grad_(True)), noise).backward()
        return run
    if row == 'train':
        adam = optimizer('train', list(unet.parameters()))
        def run():
            F.mse_loss(unet(x, t, context), noise).backward()
            adam.step()
            adam.zero_grad()
        return run
    if row == 'inversion':
        adam = optimizer('inversion', [text.table])
        def run():
            text.table.requires_grad_(True)
            F.mse_loss(unet(x, t, text(F.embedding(ids, text.table))), noise).backward()
            adam.step()
            adam.zero_grad()
            text.table.requires_grad_(False)
        return run
    if row == 'text':
        return lambda: text(F.embedding(ids, text.table))
    if row == 'text-bwd':
        return lambda: text(F.embedding(ids, text.table).clone().requires_grad_(True)).square().mean().backward()
    vae = net('vae')
    if row == 'vae-decode':
        z = torch.randn(batch, 4, side, side)
        return lambda: vae.decode(z)
    factor = 2 ** (len(vae.encoder.down_blocks) - 1)
    image = torch.rand(batch, 3, factor * side, factor * side) * 2 - 1
    return lambda: vae.encode(image)


def timed(run, grad):
    with torch.set_grad_enabled(grad):
        start = time.perf_counter()
        run()
        return time.perf_counter() - start


for line in sys.stdin:
    row, *sizes = line.split()
    side, batch, tokens = (int(s) for s in (sizes + ['77'])[:3])
    run, grad = step(row, side, batch, tokens), row.endswith('bwd') or row in ('inversion', 'train')
    if line not in seen: timed(run, grad)
    seen.add(line)
    print(timed(run, grad), flush=True)

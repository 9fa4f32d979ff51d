#!/usr/bin/python3
"""fullsize.py PROGRAM WORK [CASE...]: Stable Diffusion 1.5 at its full size, oneword's numbers beside PyTorch's.

For each case PyTorch computes outputs and gradients in float32 from the random weights in WORK/sd15 and writes them as a golden
case (testdata/README.md), which `oneword verify` then computes again, in both forms of convolution. Called by run.sh --fullsize.
Prints the normalised squared error, sum (a-b)^2 / sum b^2, of outputs (bar 1e-9) and gradients (bar 1e-8), the worst of each case.
"""
import json, math, multiprocessing, os, struct, subprocess, sys

PROGRAM, WORK = sys.argv[1:3]
ONLY = sys.argv[3:]
SD15 = os.path.join(WORK, 'sd15')
SIDE = 64
BARS = {'out': 1e-9, 'grad': 1e-8}


def write_case(path, kind, tensors, attributes):
    types, header, at = {'float32': 'F32', 'int64': 'I64'}, {}, 0
    header['__metadata__'] = {'case': kind, 'attrs': json.dumps(attributes), 'producer': 'torch, float32, random weights'}
    arrays = {name: t.detach().contiguous().numpy() for name, t in tensors.items()}
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    for name in order:
        a = arrays[name]
        header[name] = {'dtype': types[str(a.dtype)], 'shape': list(a.shape), 'data_offsets': [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for name in order: f.write(arrays[name].tobytes())


def some_parameters(net, every):
    """Gradients of each so-manyth parameter; all of them are computed."""
    return {'grad.param.' + name: p.grad for i, (name, p) in enumerate(net.named_parameters()) if p.grad is not None and i % every == 0}


def make_text(path):
    import torch, networks
    text = networks.load_text(SD15).requires_grad_(True)
    ids = torch.randint(0, text.vocab, (1, 77))
    rows = text.table[ids].detach().requires_grad_(True)
    y = text(rows)
    cotangent = torch.randn_like(y)
    (y * cotangent).sum().backward()
    write_case(path, 'text_encoder', {'in.input_ids': ids, 'in.cotangent': cotangent, 'out.last_hidden_state': y, 'grad.inputs_embeds': rows.grad,
                                      **some_parameters(text, 1)}, {})


def make_unet(path, side, all_weights):
    import torch, networks
    unet = networks.load_unet(SD15).requires_grad_(all_weights)
    x, t = torch.randn(1, 4, side, side, requires_grad=True), torch.tensor([500])
    context = torch.randn(1, 77, 768, requires_grad=True)
    y = unet(x, t, context)
    cotangent = torch.randn_like(y)
    (y * cotangent).sum().backward()
    write_case(path, 'unet', {'in.sample': x, 'in.timestep': t, 'in.encoder_hidden_states': context, 'in.cotangent': cotangent, 'out.sample': y,
                              'grad.sample': x.grad, 'grad.encoder_hidden_states': context.grad, **some_parameters(unet, 8)}, {})


def make_decode(path, side):
    import torch, networks
    vae = networks.load_vae(SD15)
    z = torch.randn(1, 4, side, side, requires_grad=True)
    y = vae.decode(z)
    cotangent = torch.randn_like(y)
    (y * cotangent).sum().backward()
    write_case(path, 'vae_decode', {'in.latent': z, 'in.cotangent': cotangent, 'out.image': y, 'grad.latent': z.grad}, {'scaling_factor': vae.scaling})


def make_encode(path, side):
    import torch, networks
    vae = networks.load_vae(SD15)
    image = (torch.rand(1, 3, 8 * side, 8 * side) * 2 - 1).requires_grad_(True)
    mean, logvar = vae.encode(image).chunk(2, 1)
    logvar = logvar.clamp(-30, 20)
    a, b = torch.randn_like(mean), torch.randn_like(mean)
    (mean * a + logvar * b).sum().backward()
    write_case(path, 'vae_encode', {'in.image': image, 'in.cotangent_mean': a, 'in.cotangent_logvar': b, 'out.mean': mean, 'out.logvar': logvar,
                                    'grad.image': image.grad}, {'scaling_factor': vae.scaling})


CASES = {'text': lambda p: make_text(p),
         'unet': lambda p: make_unet(p, SIDE, False),
         'unet-weights-256': lambda p: make_unet(p, SIDE // 2, True),
         'vae-decode': lambda p: make_decode(p, SIDE),
         'vae-encode': lambda p: make_encode(p, SIDE)}


def make(name, path):
    import torch
    torch.set_num_threads(2)
    torch.manual_seed(1)
    CASES[name](path)


def judge(name, path, flags):
    """Whether the case holds; prints the worst output and gradient."""
    run = subprocess.run([PROGRAM, 'verify', '--json', *flags, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        result = json.loads(run.stdout.splitlines()[0])
    except (IndexError, ValueError):
        print('%-18s %s' % (name, run.stderr.strip()))
        return False
    if 'reason' in result: print('%-18s %s' % (name, result['reason']))
    good, text = bool(result['tensors']) and 'reason' not in result, ''
    for part, bar in BARS.items():
        # an error of one parameter's gradient is measured against the largest one: "error"; else both are the same
        errors = [(t['error'] if isinstance(t['error'], (int, float)) else math.inf, t['name']) for t in result['tensors'] if t['name'].startswith(part + '.')]
        if not errors: continue
        worst = max(errors)
        good = good and worst[0] <= bar
        text += '  %s %.2e of %d (%s)' % (part, worst[0], len(errors), worst[1])
    print('%-18s %-18s %s%s' % (name, ' '.join(flags) or 'default', 'ok   ' if good else 'SHORT', text), flush=True)
    return good


def main():
    folder = os.path.join(SD15, 'cases')
    os.makedirs(folder, exist_ok=True)
    help_text = subprocess.run([PROGRAM, 'verify', '--help'], stdout=subprocess.PIPE, text=True).stdout
    forms = [['--conv', 'direct'], ['--conv', 'winograd']] if '--conv' in help_text else [[]]
    good = True
    for name in ONLY or CASES:
        path = os.path.join(folder, name + '.safetensors')
        child = multiprocessing.get_context('spawn').Process(target=make, args=(name, path))
        child.start()
        child.join()
        if child.exitcode: sys.exit('fullsize.py: PyTorch stopped at ' + name)
        for flags in forms[:1] if name == 'text' else forms: good = judge(name, path, flags) and good
        os.remove(path)
    return 0 if good else 1


if __name__ == '__main__': sys.exit(main())

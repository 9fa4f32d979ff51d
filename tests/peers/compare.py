#!/usr/bin/python3
"""compare.py PROGRAM KERNELS WORK [ROW...]: PyTorch, OpenBLAS, BLIS and oneDNN beside oneword, in one run, in turn.

Called by tests/peers/run.sh, which makes what it needs: PROGRAM is build/oneword, KERNELS what kernels.c is compiled to, WORK a
folder with the random models sd15 (F16) and toy (F32) and with openblas, a link to the OpenBLAS to use, if any. Prints tables,
then a line for each row: NAME ratio R bar B ok|short. With ROWs, those alone. Exit status 0 only where no row is short. The
tables of README.md are left in WORK/table.md.
"""
import json, math, os, re, statistics, subprocess, sys, tempfile, time

PROGRAM, KERNELS, WORK = sys.argv[1:4]
ONLY = sys.argv[4:]
HERE = os.path.dirname(os.path.abspath(__file__))
SD15, TOY, WORLD = os.path.join(WORK, 'sd15'), os.path.join(WORK, 'toy'), os.path.join(HERE, '../../testdata/world/model')
GIB = 2.0 ** 30

BARS = {'matmul-blas': 1.0, 'matmul-onednn': 0.9, 'conv-direct': 0.9, 'conv-winograd': 0.8, 'conv-wgrad': 0.8, 'attention': 1.0,
        'unet': 1.8, 'unet-direct': 1.45, 'unet-bwd': 1.9, 'unet-bwd-direct': 1.45, 'inversion': 2.0, 'inversion-direct': 1.5,
        'vae-decode': 2.3, 'vae-encode': 2.2, 'vae-decode-direct': 1.15, 'vae-encode-direct': 1.15, 'text': 1.4, 'text-bwd': 1.4,
        'toy-train': 2.2, 'world-inversion': 2.5, 'scaling': 1.8,
        'memory-inversion-fast': 1.0, 'memory-inversion-mid': 1.0, 'memory-inversion-low': 1.0,
        'memory-generate-fast': 1.0, 'memory-generate-mid': 1.0, 'memory-generate-low': 1.0}
ratios, markdown = {}, []


def wanted(*rows):
    return not ONLY or any(r in ONLY for r in rows)


def say(text=''):
    print(text, flush=True)


def median(x):
    return statistics.median(x)


# ---- how each side runs at its best ----

def own_environment():
    """What a user's shell has, without settings of other programs."""
    return {k: v for k, v in os.environ.items() if not k.startswith(('OMP_', 'GOMP_', 'OPENBLAS_', 'BLIS_', 'MALLOC_'))}


def torch_environment():
    """glibc keeps its pages, which it would else give back and have zeroed again for each large temporary; OpenBLAS shares
    PyTorch's own OpenMP threads, where the default build has threads of its own that fight with them."""
    env = own_environment()
    env.update(MALLOC_MMAP_MAX_='0', MALLOC_TRIM_THRESHOLD_='100000000000')
    openblas = os.path.join(WORK, 'openblas')
    if os.path.isdir(openblas): env['LD_LIBRARY_PATH'] = os.path.realpath(openblas)
    return env


class Torch:
    """A worker.py: one process for several rows, so that the weights are read once."""
    def __init__(self, model, threads=2):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, 'worker.py'), model, str(threads)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=torch_environment())

    def step(self, *line):
        self.process.stdin.write(' '.join(str(x) for x in line) + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer: sys.exit('compare.py: PyTorch stopped at ' + str(line))
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def oneword(*arguments):
    """Runs the program; (its output, seconds, peak resident set in bytes, what it said beside)."""
    with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
        start = time.perf_counter()
        p = subprocess.Popen([PROGRAM, *arguments], stdout=out, stderr=err, env=own_environment())
        _, status, usage = os.wait4(p.pid, 0)
        seconds = time.perf_counter() - start
        out.seek(0), err.seek(0)
        notes = err.read()
        if status: raise RuntimeError('oneword %s: %s' % (' '.join(arguments), notes.strip().splitlines()[-1:]))
        return out.read(), seconds, usage.ru_maxrss * 1024, notes


def bench(model, row, *arguments):
    """One network in a process of its own: its row, with the process's peak memory as 'rss'."""
    out, _, rss, _ = oneword('bench', '--model', model, '--only', row, '--json', '--seconds', '0', *arguments)
    return dict(json.loads(out)['networks'][0], rss=rss)


# ---- kernels ----

def geometric_mean(x):
    return math.exp(sum(math.log(v) for v in x) / len(x)) if x else 0.0


def library(name):
    for line in subprocess.run(['/sbin/ldconfig', '-p'], capture_output=True, text=True).stdout.splitlines():
        if line.split() and line.split()[0] == name: return line.split()[-1]
    return '-'


def run_kernels():
    """(kind, way, shape) -> {contender: GFLOP/s}"""
    openblas = os.path.join(WORK, 'openblas/libopenblas.so.0')
    env = own_environment()
    env.update(OMP_NUM_THREADS='2', BLIS_NUM_THREADS='2', OMP_WAIT_POLICY='active')
    if 'avx512f' in open('/proc/cpuinfo').read(): env['BLIS_ARCH_TYPE'] = '0'
    out = subprocess.run([KERNELS, openblas if os.path.exists(openblas) else library('libopenblas.so.0'), library('libblis.so.4')],
                         stdout=subprocess.PIPE, text=True, env=env, check=True).stdout
    table = {}
    for line in out.splitlines():
        kind, way, shape, who, rate = line.split('\t')
        table.setdefault((kind, way, shape), {})[who] = float(rate)
    return table


def print_kernels(table, kind, columns):
    say('\n%-8s %-30s' % (kind, 'GFLOP/s') + ''.join('%19s' % c for c in columns))
    for (k, way, shape), rates in table.items():
        if k == kind: say('%-8s %-30s' % (way, shape) + ''.join('%19s' % ('%.1f' % rates[c] if c in rates else '') for c in columns))


def worst(pairs, name):
    """The smallest ratio and its shape; every shape has to reach the bar."""
    ratio, where = min(pairs)
    say('%s: worst of %d is %s, geometric mean %.3f' % (name, len(pairs), where, geometric_mean([p[0] for p in pairs])))
    return ratio


def kernels():
    table = run_kernels()
    print_kernels(table, 'matmul', ['ours', 'openblas', 'blis', 'onednn', 'ours-f16'])
    print_kernels(table, 'conv', ['ours', 'ours-direct', 'ours-winograd', 'onednn-direct', 'onednn-direct-nchw', 'onednn-winograd'])
    matmul = [r for (kind, _, _), r in table.items() if kind == 'matmul']
    blas, half = [r['ours'] / max(r.get('openblas', 0), r.get('blis', 0)) for r in matmul], [r['ours-f16'] / r['ours'] for r in matmul if 'ours-f16' in r]
    ratios['matmul-blas'] = geometric_mean(blas)
    ratios['matmul-onednn'] = geometric_mean([r['ours'] / r['onednn'] for r in matmul])
    say('\nmatmul with F16 weights over F32 weights, ours: geometric mean %.3f, least %.3f' % (geometric_mean(half), min(half)))
    conv = {(way, shape): r for (kind, way, shape), r in table.items() if kind == 'conv'}
    named = lambda way, shape: '%s %s' % (way, shape)
    ratios['conv-direct'] = worst([(r.get('ours-direct', r['ours']) / r['onednn-direct'], named(*k)) for k, r in conv.items()
                                   if k[0] != 'dw' and 'onednn-direct' in r and not k[1].startswith('toy')], 'conv-direct')
    wins = [(max(r['ours'], r.get('ours-winograd', 0)) / r['onednn-winograd'], named(*k)) for k, r in conv.items() if r.get('onednn-winograd', 0) > r.get('onednn-direct', 0)]
    if wins: ratios['conv-winograd'] = worst(wins, 'conv-winograd')
    else: say('conv-winograd: nothing to compare with: oneDNN has no such form on this processor')
    ratios['conv-wgrad'] = worst([(r.get('ours-direct', r['ours']) / r['onednn-direct'], named(*k)) for k, r in conv.items() if k[0] == 'dw' and 'onednn-direct' in r], 'conv-wgrad')


def attention():
    """Both directions have to reach 60 % of the multiply-adds that the machine does in registers."""
    out = json.loads(oneword('bench', '--only', 'machine,attention', '--json', '--seconds', '0.5')[0])
    for row in out['machine'] + out['attention']: say('%-44s %8.1f' % (row['name'], row.get('gflops', row.get('gbs', 0))))
    shares = [row['of_peak'] for row in out['attention'] if '4096 tokens, 8 heads of 40' in row['name']]
    say('4096 tokens x 40: of peak, forward %.3f, backward %.3f' % tuple(shares))
    ratios['attention'] = min(shares) / 0.60


# ---- networks ----

def direct_flags():
    return ['--conv', 'direct'] if '--conv' in oneword('bench', '--help')[0] else []


def describe(name, theirs, ours, direct, rss):
    number = lambda x: '%.3g' % x if x else ''
    markdown.append('| %s | %s | %s | %s | %.2f | %.2f |' % (name, number(theirs), number(ours), number(direct), theirs / min(ours, direct or ours), rss / GIB))
    say('%-28s %9.4f %9.4f %9s %7.2f %7s %8.2f' % (name, theirs, ours, '%.4f' % direct if direct else '', theirs / min(ours, direct or ours),
                                                 '%.2f' % (theirs / direct) if direct else '', rss / GIB))


def race(torch, model, row, side, batch=1, tokens=77, rounds=3, runs=1, direct=(), own=()):
    """Medians of (theirs, ours, ours with direct convolution or None), in turn."""
    sizes = ['--size', str(8 * side)] if model == SD15 else []
    arguments = [*sizes, '--batch', str(batch), '--tokens', str(tokens), '--runs', str(runs), *own] if row[:3] != 'vae' else [*sizes, '--batch', str(batch), '--runs', str(runs)]
    theirs, ours, other, rss = [], [], [], 0
    for _ in range(rounds):
        theirs += [torch.step(row, side, batch, tokens) for _ in range(runs)]
        result = bench(model, row, *arguments)
        ours.append(result['seconds'])
        rss = max(rss, result['rss'])
        if direct: other.append(bench(model, row, *arguments, *direct)['seconds'])
    return median(theirs), median(ours), median(other) if other else None, rss


def header():
    say('\n%-28s %9s %9s %9s %7s %7s %8s' % ('seconds, medians', 'PyTorch', 'oneword', 'direct', 'ratio', 'direct', 'our GiB'))


def record(name, result, direct_row=True):
    theirs, ours, direct, rss = result
    describe(name, theirs, ours, direct, rss)
    ratios[name] = theirs / min(ours, direct or ours)
    if direct_row: ratios[name + '-direct'] = theirs / (direct or ours)


def networks():
    if not wanted(*(r for r in BARS if r.startswith(('text', 'unet', 'inversion', 'vae', 'toy', 'world')))): return
    direct = direct_flags()
    header()
    if wanted('text', 'text-bwd', 'unet', 'unet-direct', 'unet-bwd', 'unet-bwd-direct', 'inversion', 'inversion-direct'):
        torch = Torch(SD15)
        for row in ('text', 'text-bwd'):
            if wanted(row): record(row, race(torch, SD15, row, 64, runs=5), False)
        for row in ('unet', 'unet-bwd', 'inversion'):
            if not wanted(row, row + '-direct'): continue
            describe(row + ' 256x256', *race(torch, SD15, row, 32, rounds=2, runs=2, direct=direct))
            record(row, race(torch, SD15, row, 64, rounds=3 if row == 'unet' else 2, direct=direct))
        if wanted('unet'): describe('unet batch 2', *race(torch, SD15, 'unet', 64, batch=2, rounds=2))
        if wanted('inversion'): describe('inversion 256x256 batch 2', *race(torch, SD15, 'inversion', 32, batch=2, rounds=2))
        torch.close()
    if wanted('vae-decode', 'vae-decode-direct', 'vae-encode', 'vae-encode-direct'):
        torch = Torch(SD15)
        for row in ('vae-decode', 'vae-encode'):
            if not wanted(row, row + '-direct'): continue
            describe(row + ' 256x256', *race(torch, SD15, row, 32, rounds=2, direct=direct))
            record(row, race(torch, SD15, row, 64, direct=direct))
        torch.close()
    if wanted('toy-train'):
        torch = Torch(TOY)
        record('toy-train', race(torch, TOY, 'train', 16, batch=32, tokens=16, runs=4), False)
        torch.close()
    if wanted('world-inversion'): record('world-inversion', world(), False)


def world():
    """A network so small that PyTorch may be faster on one thread: it gets the better of the two."""
    best = None
    for threads in (1, 2):
        torch = Torch(WORLD, threads)
        for _ in range(3): torch.step('inversion', 16, 1)
        result = race(torch, WORLD, 'inversion', 16, tokens=32, rounds=3, runs=15)
        torch.close()
        if best is None or result[0] < best[0]: best = result
    return best


def scaling():
    one, two = [], []
    for _ in range(2):
        for threads, times in ((1, one), (2, two)): times.append(bench(SD15, 'unet', '--size', '512', '--runs', '1', '--threads', str(threads))['seconds'])
    say('\nunet on 1 thread %.3f s, on 2 threads %.3f s' % (median(one), median(two)))
    ratios['scaling'] = median(one) / median(two)


# ---- memory ----

def picture_folder():
    """One picture of 512x512, smooth with some noise."""
    folder = os.path.join(WORK, 'pictures')
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'picture.ppm'), 'wb') as f:
        f.write(b'P6 512 512 255\n' + bytes((x * y // 512 + 37 * c + x * 7919 * y % 17) % 256 for y in range(512) for x in range(512) for c in range(3)))
    return folder


def step_times(log):
    """When each step was written down, seen by looking often; (process, log) -> seconds between steps."""
    seen, moments = 0, []
    while True:
        size = open(log).read().count('"event":"step"') if os.path.exists(log) else 0
        if size > seen: moments.append(time.perf_counter())
        seen = size
        yield moments
        time.sleep(0.05)


def planned(notes):
    """Bytes that a plan states, 0 where there is none."""
    found = re.search(r'memory ([0-9.]+) ([GM])iB', notes)
    return float(found[1]) * (GIB if found[2] == 'G' else 2 ** 20) if found else 0


def train(memory):
    """(peak resident set, seconds a step, what the plan said) of `oneword train` with that much memory."""
    with tempfile.TemporaryDirectory(dir=WORK) as out:
        command = ['train', '--model', SD15, '--train-data-dir', picture_folder(), '--placeholder-token', '<thing>', '--initializer-token', 'cat',
                   '--resolution', '512', '--train-batch-size', '1', '--gradient-accumulation-steps', '1', '--max-train-steps', '4', '--seed', '1',
                   '--output', os.path.join(out, 't'), *memory]
        with tempfile.TemporaryFile('w+') as err:
            p = subprocess.Popen([PROGRAM, *command], stdout=subprocess.DEVNULL, stderr=err, env=own_environment())
            watch, moments = step_times(os.path.join(out, 't', 'log.jsonl')), []
            while True:
                moments = next(watch)
                pid, status, usage = os.wait4(p.pid, os.WNOHANG)
                if pid: break
            err.seek(0)
            notes = err.read()
            if status: raise RuntimeError('train %s: %s' % (memory, notes.strip().splitlines()[-1:]))
        gaps = [b - a for a, b in zip(moments, moments[1:])]
        return usage.ru_maxrss * 1024, median(gaps) if gaps else float('inf'), planned(notes)


def generate(memory):
    """(peak resident set, seconds, what the plan said) of a picture in 3 guided steps."""
    with tempfile.TemporaryDirectory(dir=WORK) as out:
        _, seconds, rss, notes = oneword('generate', '--model', SD15, '-p', 'a photo of a cat', '--steps', '3', '--cfg-scale', '7.5', '--seed', '1', '-W', '512',
                                  '-H', '512', '-o', os.path.join(out, 'a.png'), *memory)
    return rss, seconds, planned(notes)


def memory():
    plans = (('inversion', train, ((), ('--memory', '4.5'), ('--memory', '3')), (7.0, 4.5, 3.0)),
             ('generate', generate, ((), ('--memory', '2.6'), ('--memory', 'low')), (4.0, 2.6, 1.8)))
    say('\n%-28s %9s %9s %9s %9s' % ('peak resident set', 'GiB', 'plan', 'limit', 'seconds'))
    for what, run, settings, limits in plans:
        fast = None
        for mode, setting, limit in zip(('fast', 'mid', 'low'), settings, limits):
            name = 'memory-%s-%s' % (what, mode)
            if not wanted(name) and mode != 'fast': continue
            try:
                rss, seconds, plan = run(list(setting))
            except RuntimeError as e:
                say('%s: %s' % (name, e))
                ratios[name] = 0.0
                continue
            fast = fast or seconds
            ratios[name] = limit * GIB / rss
            if mode == 'mid' and seconds > 1.15 * fast: ratios[name] = min(ratios[name], 1.15 * fast / seconds)
            say('%-28s %9.2f %9.2f %9.2f %9.2f%s' % (name, rss / GIB, plan / GIB, limit, seconds, '  (%.3f of the fastest)' % (seconds / fast) if mode != 'fast' else ''))


def write_tables():
    rows = ['| %s | %.3f | %g |' % (name, ratios[name], bar) for name, bar in BARS.items() if name in ratios]
    with open(os.path.join(WORK, 'table.md'), 'w') as f:
        f.write('\n'.join(['| seconds | PyTorch | oneword | direct convolution | ratio | peak memory, GiB |', '|---|---|---|---|---|---|', *markdown,
                           '', '| row | ratio | bar |', '|---|---|---|', *rows, '']))


def main():
    start = time.time()
    if wanted('matmul-blas', 'matmul-onednn', 'conv-direct', 'conv-winograd', 'conv-wgrad'): kernels()
    if wanted('attention'): attention()
    networks()
    if wanted('scaling'): scaling()
    if wanted(*(r for r in BARS if r.startswith('memory'))): memory()
    say('\n%.0f minutes' % ((time.time() - start) / 60))
    write_tables()
    short = 0
    for name, bar in BARS.items():
        if ONLY and name not in ratios: continue
        ratio = ratios.get(name, 0.0)
        short += ratio < bar
        say('%s ratio %.3f bar %g %s' % (name, ratio, bar, 'ok' if ratio >= bar else 'short'))
    return 1 if short else 0


sys.exit(main())

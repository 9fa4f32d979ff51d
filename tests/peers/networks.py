"""Text encoder, UNet and autoencoder in plain PyTorch, from a folder of configurations and weights as oneword writes it.

Each is what a user of PyTorch 1.13 runs: torch's own convolutions and matrix products, attention as softmax(q k^T) v with one
batched product each (the fused one came later). Module names are those of the weights' files.
"""
import json, math, mmap, os, struct

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def load_config(folder):
    with open(os.path.join(folder, 'config.json')) as f:
        return json.load(f)


def read_tensors(path):
    """Name -> float32 tensor of a safetensors file."""
    with open(path, 'rb') as f:
        data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    n = struct.unpack('<Q', data[:8])[0]
    header = json.loads(data[8:8 + n])
    header.pop('__metadata__', None)
    types = {'F32': np.float32, 'F16': np.float16}
    return {name: torch.from_numpy(np.frombuffer(data, types[t['dtype']], int(np.prod(t['shape'])), 8 + n + t['data_offsets'][0])
                                   .astype(np.float32).reshape(t['shape'])) for name, t in header.items()}


def build(make, folder, stem):
    """A network with the folder's weights, none of them wanting a gradient."""
    init = nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_
    nn.init.kaiming_uniform_ = nn.init.uniform_ = nn.init.normal_ = lambda x, *a, **k: x
    net = make(load_config(folder))
    nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_ = init
    net.load_state_dict(read_tensors(os.path.join(folder, stem + '.safetensors')))
    return net.requires_grad_(False)


def load_text(model):
    return build(Text, os.path.join(model, 'text_encoder'), 'model')


def load_unet(model):
    return build(UNet, os.path.join(model, 'unet'), 'diffusion_pytorch_model')


def load_vae(model):
    return build(VAE, os.path.join(model, 'vae'), 'diffusion_pytorch_model')


def attend(q, k, v, heads, mask=None):
    """[B,L,C], [B,S,C], [B,S,C] -> [B,L,C]"""
    B, L, C = q.shape
    S, d = k.shape[1], C // heads
    split = lambda t, n: t.reshape(B, n, heads, d).transpose(1, 2).reshape(B * heads, n, d)
    q, k, v = split(q, L), split(k, S), split(v, S)
    base = q.new_empty(B * heads, L, S) if mask is None else mask.expand(B * heads, L, S)
    p = torch.baddbmm(base, q, k.transpose(1, 2), beta=0 if mask is None else 1, alpha=d ** -.5).softmax(-1)
    return torch.bmm(p, v).reshape(B, heads, L, d).transpose(1, 2).reshape(B, L, C)


# ---- UNet ----

class Attention(nn.Module):
    def __init__(self, c, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = nn.Linear(c, c, False), nn.Linear(context, c, False), nn.Linear(context, c, False)
        self.to_out = nn.ModuleList([nn.Linear(c, c)])

    def forward(self, x, context=None):
        context = x if context is None else context
        return self.to_out[0](attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class GEGLU(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.proj = nn.Linear(c, 8 * c)

    def forward(self, x):
        a, gate = self.proj(x).chunk(2, -1)
        return a * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.net = nn.ModuleList([GEGLU(c), nn.Identity(), nn.Linear(4 * c, c)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, c, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn1, self.attn2, self.ff = Attention(c, c, heads), Attention(c, context, heads), FeedForward(c)

    def forward(self, x, context):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    def __init__(self, c, context, heads, groups, linear):
        super().__init__()
        self.linear, self.norm = linear, nn.GroupNorm(groups, c, 1e-6)
        project = (lambda: nn.Linear(c, c)) if linear else (lambda: nn.Conv2d(c, c, 1))
        self.proj_in, self.transformer_blocks, self.proj_out = project(), nn.ModuleList([TransformerBlock(c, context, heads)]), project()

    def forward(self, x, context):
        B, C, H, W = x.shape
        tokens = lambda t: t.permute(0, 2, 3, 1).reshape(B, H * W, C)
        image = lambda t: t.reshape(B, H, W, C).permute(0, 3, 1, 2).contiguous()
        h = self.norm(x)
        h = self.proj_in(tokens(h)) if self.linear else tokens(self.proj_in(h))
        h = self.transformer_blocks[0](h, context)
        return (image(self.proj_out(h)) if self.linear else self.proj_out(image(h))) + x


class Resnet(nn.Module):
    def __init__(self, i, o, time, groups, eps):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, i, eps), nn.Conv2d(i, o, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, o, eps), nn.Conv2d(o, o, 3, 1, 1)
        if time: self.time_emb_proj = nn.Linear(time, o)
        self.conv_shortcut = nn.Conv2d(i, o, 1) if i != o else None

    def forward(self, x, t=None):
        h = self.conv1(F.silu(self.norm1(x)))
        if t is not None: h = h + self.time_emb_proj(F.silu(t))[:, :, None, None]
        return self.conv2(F.silu(self.norm2(h))) + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Down(nn.Module):
    def __init__(self, c, padding):
        super().__init__()
        self.padding, self.conv = padding, nn.Conv2d(c, c, 3, 2, padding)

    def forward(self, x):
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.))


def stage(resnets, attentions=None, down=None, up=None):
    s = nn.Module()
    s.resnets = nn.ModuleList(resnets)
    if attentions: s.attentions = nn.ModuleList(attentions)
    if down: s.downsamplers = nn.ModuleList([down])
    if up: s.upsamplers = nn.ModuleList([up])
    return s


class UNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        ch, layers, io = cfg['block_out_channels'], cfg['layers_per_block'], cfg['in_channels']
        n, time, groups = len(ch), 4 * ch[0], cfg['norm_num_groups']
        heads = cfg['attention_head_dim']
        heads = heads if isinstance(heads, list) else [heads] * n
        cross = [t.startswith('Cross') for t in cfg['down_block_types']]
        resnet = lambda i, o: Resnet(i, o, time, groups, cfg['norm_eps'])
        transformer = lambda at: Transformer(ch[at], cfg['cross_attention_dim'], heads[at], groups, cfg.get('use_linear_projection', False))
        self.width = c = ch[0]
        self.conv_in = nn.Conv2d(io, c, 3, 1, 1)
        self.time_embedding = nn.ModuleDict(dict(linear_1=nn.Linear(c, time), linear_2=nn.Linear(time, time)))
        self.down_blocks, skips = nn.ModuleList(), [c]
        for i, o in enumerate(ch):
            last = i == n - 1
            self.down_blocks.append(stage([resnet(c if j == 0 else o, o) for j in range(layers)],
                                          [transformer(i) for _ in range(layers)] if cross[i] else None, None if last else Down(o, 1)))
            skips += [o] * (layers + (not last))
            c = o
        self.mid_block = stage([resnet(c, c), resnet(c, c)], [transformer(n - 1)])
        self.up_blocks = nn.ModuleList()
        for i in reversed(range(n)):
            resnets = []
            for _ in range(layers + 1):
                resnets.append(resnet(c + skips.pop(), ch[i]))
                c = ch[i]
            self.up_blocks.append(stage(resnets, [transformer(i) for _ in range(layers + 1)] if cross[i] else None, None, Up(c) if i else None))
        self.conv_norm_out, self.conv_out = nn.GroupNorm(groups, c, cfg['norm_eps']), nn.Conv2d(c, io, 3, 1, 1)

    @staticmethod
    def layer(block, j, x, time, context):
        x = block.resnets[j](x, time)
        return block.attentions[j](x, context) if hasattr(block, 'attentions') else x

    def forward(self, x, t, context):
        half = self.width // 2
        angle = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half) / half)
        time = torch.cat([angle.cos(), angle.sin()], -1)
        time = self.time_embedding['linear_2'](F.silu(self.time_embedding['linear_1'](time)))
        x = self.conv_in(x)
        skips = [x]
        for b in self.down_blocks:
            for j in range(len(b.resnets)):
                x = self.layer(b, j, x, time, context)
                skips.append(x)
            if hasattr(b, 'downsamplers'):
                x = b.downsamplers[0](x)
                skips.append(x)
        m = self.mid_block
        x = m.resnets[1](m.attentions[0](m.resnets[0](x, time), context), time)
        for b in self.up_blocks:
            for j in range(len(b.resnets)): x = self.layer(b, j, torch.cat([x, skips.pop()], 1), time, context)
            if hasattr(b, 'upsamplers'): x = b.upsamplers[0](x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


# ---- autoencoder ----

class ImageAttention(nn.Module):
    def __init__(self, c, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, c, 1e-6)
        self.to_q, self.to_k, self.to_v, self.to_out = nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, c), nn.ModuleList([nn.Linear(c, c)])

    def forward(self, x):
        B, C, H, W = x.shape
        h = self.group_norm(x).reshape(B, C, H * W).transpose(1, 2)
        h = self.to_out[0](attend(self.to_q(h), self.to_k(h), self.to_v(h), 1))
        return x + h.transpose(1, 2).reshape(B, C, H, W)


class VAE(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        ch, z, groups, layers = cfg['block_out_channels'], cfg['latent_channels'], cfg['norm_num_groups'], cfg['layers_per_block']
        self.scaling = cfg.get('scaling_factor', 0.18215)
        resnet = lambda i, o: Resnet(i, o, 0, groups, 1e-6)
        middle = lambda c: stage([resnet(c, c), resnet(c, c)], [ImageAttention(c, groups)])
        e, d, n, c = nn.Module(), nn.Module(), len(ch), ch[0]
        e.conv_in, e.down_blocks = nn.Conv2d(3, c, 3, 1, 1), nn.ModuleList()
        for i, o in enumerate(ch):
            e.down_blocks.append(stage([resnet(c if j == 0 else o, o) for j in range(layers)], None, Down(o, 0) if i < n - 1 else None))
            c = o
        e.mid_block, e.conv_norm_out, e.conv_out = middle(c), nn.GroupNorm(groups, c, 1e-6), nn.Conv2d(c, 2 * z, 3, 1, 1)
        d.conv_in, d.mid_block, d.up_blocks = nn.Conv2d(z, c, 3, 1, 1), middle(c), nn.ModuleList()
        for i, o in reversed(list(enumerate(ch))):
            d.up_blocks.append(stage([resnet(c if j == 0 else o, o) for j in range(layers + 1)], None, None, Up(o) if i else None))
            c = o
        d.conv_norm_out, d.conv_out = nn.GroupNorm(groups, c, 1e-6), nn.Conv2d(c, 3, 3, 1, 1)
        self.encoder, self.decoder, self.quant_conv, self.post_quant_conv = e, d, nn.Conv2d(2 * z, 2 * z, 1), nn.Conv2d(z, z, 1)

    @staticmethod
    def middle(m, x):
        return m.resnets[1](m.attentions[0](m.resnets[0](x)))

    def encode(self, x):
        e = self.encoder
        x = e.conv_in(x)
        for b in e.down_blocks:
            for r in b.resnets: x = r(x)
            if hasattr(b, 'downsamplers'): x = b.downsamplers[0](x)
        return self.quant_conv(e.conv_out(F.silu(e.conv_norm_out(self.middle(e.mid_block, x)))))

    def decode(self, z):
        d = self.decoder
        x = self.middle(d.mid_block, d.conv_in(self.post_quant_conv(z)))
        for b in d.up_blocks:
            for r in b.resnets: x = r(x)
            if hasattr(b, 'upsamplers'): x = b.upsamplers[0](x)
        return d.conv_out(F.silu(d.conv_norm_out(x)))


# ---- text encoder ----

class TextLayer(nn.Module):
    def __init__(self, c, wide, heads, quick, eps):
        super().__init__()
        self.heads, self.quick = heads, quick
        a = self.self_attn = nn.Module()
        a.q_proj, a.k_proj, a.v_proj, a.out_proj = (nn.Linear(c, c) for _ in range(4))
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c, eps), nn.LayerNorm(c, eps)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(c, wide), nn.Linear(wide, c)

    def forward(self, x, mask):
        a, h = self.self_attn, self.layer_norm1(x)
        x = x + a.out_proj(attend(a.q_proj(h), a.k_proj(h), a.v_proj(h), self.heads, mask))
        h = self.mlp.fc1(self.layer_norm2(x))
        return x + self.mlp.fc2(h * torch.sigmoid(1.702 * h) if self.quick else F.gelu(h))


class Text(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        c, eps, t = cfg['hidden_size'], cfg['layer_norm_eps'], nn.Module()
        t.embeddings, t.encoder = nn.Module(), nn.Module()
        t.embeddings.token_embedding = nn.Embedding(cfg['vocab_size'], c)
        t.embeddings.position_embedding = nn.Embedding(cfg['max_position_embeddings'], c)
        t.encoder.layers = nn.ModuleList([TextLayer(c, cfg['intermediate_size'], cfg['num_attention_heads'], cfg['hidden_act'] == 'quick_gelu', eps)
                                          for _ in range(cfg['num_hidden_layers'])])
        t.final_layer_norm = nn.LayerNorm(c, eps)
        self.text_model, self.positions, self.width, self.vocab = t, cfg['max_position_embeddings'], c, cfg['vocab_size']

    @property
    def table(self):
        return self.text_model.embeddings.token_embedding.weight

    def forward(self, rows):
        """Token rows [B,L,C], without positions, to the last hidden state."""
        t, L = self.text_model, rows.shape[1]
        x = rows + t.embeddings.position_embedding.weight[:L]
        mask = torch.full((L, L), -1e30).triu(1)
        for layer in t.encoder.layers: x = layer(x, mask)
        return t.final_layer_norm(x)

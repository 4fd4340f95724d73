"""ResNets with attention over positions."""

import torch
import torch.nn.functional as F
from torch import nn

from .parts import (
    CLASSES,
    Residual,
    basic,
    bottleneck,
    classifier,
    conv_norm,
    deep_stem,
    network,
    squeeze_excite,
    stem,
)


class AttentionPool(nn.Module):
    """CLIP's pooling by attention; its one query is the mean of all places."""

    def __init__(self, side, channels, heads, outputs):
        super().__init__()
        self.positions = nn.Parameter(torch.randn(side**2 + 1, channels) / channels**0.5)
        self.q, self.k, self.v = (nn.Linear(channels, channels) for _ in range(3))
        self.c, self.heads = nn.Linear(channels, outputs), heads

    def forward(self, x):
        x = x.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x], 0)
        x = x + self.positions[:, None, :]
        x, _ = F.multi_head_attention_forward(
            x[:1], x, x, x.shape[-1], self.heads, None, torch.cat([self.q.bias, self.k.bias, self.v.bias]),
            None, None, False, 0, self.c.weight, self.c.bias, self.training, None, False,
            use_separate_proj_weight=True, q_proj_weight=self.q.weight, k_proj_weight=self.k.weight,
            v_proj_weight=self.v.weight,
        )
        return x.squeeze(0)


def clip_bottleneck(inputs, width, stride):
    """A bottleneck whose strides are poolings before a convolution of one."""
    pool = [nn.AvgPool2d(stride)] if stride > 1 else []
    main = [conv_norm(inputs, width), conv_norm(width, width, 3), *pool]
    main += [conv_norm(width, 4 * width, act=None)]
    skip = nn.Sequential(*pool, conv_norm(inputs, 4 * width, act=None))
    return Residual(nn.Sequential(*main), skip, nn.ReLU())


@network("clip_rn", 3, 64, 64)
def clip_rn():
    convs = [conv_norm(3, 4, 3, 2), conv_norm(4, 4, 3), conv_norm(4, 8, 3), nn.AvgPool2d(2)]
    stages = [(8, 8, 1), (32, 16, 2), (64, 32, 2), (128, 48, 2)]
    blocks = [clip_bottleneck(*stage) for stage in stages]
    return nn.Sequential(*convs, *blocks, AttentionPool(2, 192, 4, CLASSES))


class RelativePositions(nn.Module):
    """BoTNet's logits of relative positions, shifted into place by paddings and reshapes."""

    def __init__(self, side, width):
        super().__init__()
        self.side = side
        self.down, self.across = (nn.Parameter(torch.randn(2 * side - 1, width) / width**0.5) for _ in "hw")

    def along(self, q, relative, order):
        """Logits along the axis before the last of q: f32[N,A,B,width]."""
        batch, a, b, _ = q.shape
        x = (q @ relative.transpose(-1, -2)).reshape(-1, b, 2 * b - 1)
        x = F.pad(F.pad(x, [0, 1]).flatten(1), [0, b - 1])
        x = x.reshape(-1, b + 1, 2 * b - 1)[:, :b, b - 1 :]
        return x.reshape(batch, a, 1, b, b).expand(-1, -1, a, -1, -1).permute(order)

    def forward(self, q):
        batch, places, _ = q.shape
        q = q.reshape(batch, self.side, self.side, -1)
        across = self.along(q, self.across, (0, 1, 3, 2, 4))
        down = self.along(q.transpose(1, 2), self.down, (0, 3, 1, 4, 2))
        return (down + across).reshape(batch, places, places)


class AbsolutePositions(nn.Module):
    """Logits of absolute positions: an embedding for each row and one for each column."""

    def __init__(self, side, width):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(side, width) / width**0.5)
        self.columns = nn.Parameter(torch.randn(side, width) / width**0.5)

    def forward(self, q):
        places = (self.rows.unsqueeze(1) + self.columns.unsqueeze(0)).flatten(0, 1)
        return torch.einsum("bid,jd->bij", q, places)


class BottleneckAttention(nn.Module):
    """BoTNet's attention over all places of a map; stride two pools after it."""

    def __init__(self, channels, side, stride, positions):
        super().__init__()
        self.heads, self.width = 2, channels // 2
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.positions = positions(side, self.width)
        self.pool = nn.AvgPool2d(2, 2) if stride == 2 else nn.Identity()

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = torch.split(self.qkv(x), c, dim=1)
        q = q.reshape(n * self.heads, self.width, -1).transpose(-1, -2)
        k = k.reshape(n * self.heads, self.width, -1)
        v = v.reshape(n * self.heads, self.width, -1).transpose(-1, -2)
        attention = ((q @ k) * self.width**-0.5 + self.positions(q)).softmax(-1)
        return self.pool((attention @ v).transpose(-1, -2).reshape(n, c, h, w))


def attention_middle(channels, attention, act=nn.ReLU):
    """An attention in the place of a bottleneck's 3x3 convolution."""
    return nn.Sequential(attention, nn.BatchNorm2d(channels), act())


def bot_net(positions):
    """Two bottlenecks with convolutions, two with attention."""
    same = attention_middle(16, BottleneckAttention(16, 4, 1, positions))
    down = attention_middle(24, BottleneckAttention(24, 4, 2, positions))
    first = [bottleneck(8, 16), bottleneck(16, 32, 2)]
    return classifier(48, stem(), *first, bottleneck(32, 32, 1, same), bottleneck(32, 48, 2, down))


@network("botnet", 3, 32, 32)
def botnet():
    return bot_net(RelativePositions)


@network("botnet_absolute", 3, 32, 32)
def botnet_absolute():
    return bot_net(AbsolutePositions)


@network("se_botnet", 3, 32, 32)
def se_botnet():
    """Squeeze and excitation behind the 3x3 convolutions, SiLU, attention last."""

    def gated(width, stride):
        return nn.Sequential(conv_norm(width, width, 3, stride, nn.SiLU), squeeze_excite(width))

    blocks = [bottleneck(8, 16, 1, gated(8, 1), nn.SiLU), bottleneck(16, 32, 2, gated(16, 2), nn.SiLU)]
    attention = attention_middle(24, BottleneckAttention(24, 4, 2, RelativePositions), nn.SiLU)
    return classifier(48, deep_stem(act=nn.SiLU), *blocks, bottleneck(32, 48, 2, attention, nn.SiLU))


def relative_indices(side):
    """i64[2,side²,side²]: the rows and columns from one place to another, from zero up."""
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
    return grid[:, None, :] - grid[:, :, None] + side - 1


class LambdaLayer(nn.Module):
    """LambdaNetworks' layer: a function of the context that is applied to each query.

    The position lambdas come from a convolution over the values (reach) or from embeddings of all relative
    positions.
    """

    def __init__(self, channels, side, reach=None):
        super().__init__()
        heads, width = 2, 4
        self.heads, self.width, self.depth, self.reach = heads, width, channels // heads, reach
        self.qkv = nn.Conv2d(channels, heads * width + width + self.depth, 1, bias=False)
        self.norm_q, self.norm_v = nn.BatchNorm2d(heads * width), nn.BatchNorm2d(self.depth)
        if reach:
            self.conv = nn.Conv3d(1, width, (reach, reach, 1), padding=(reach // 2, reach // 2, 0))
        else:
            self.positions = nn.Parameter(torch.randn(2 * side - 1, 2 * side - 1, width) * 0.3)
            self.register_buffer("indices", relative_indices(side))

    def position_lambdas(self, v, h, w):
        """f32[N,1,places,width,depth]."""
        n = v.shape[0]
        if self.reach:
            x = self.conv(v.reshape(n, 1, h, w, self.depth))
            return x.reshape(n, 1, self.width, h * w, self.depth).transpose(2, 3)
        positions = self.positions[self.indices[0], self.indices[1]].expand(n, -1, -1, -1)
        return (positions.transpose(-1, -2) @ v.unsqueeze(1)).unsqueeze(1)

    def forward(self, x):
        n, c, h, w = x.shape
        q, k, v = torch.split(self.qkv(x), [self.heads * self.width, self.width, self.depth], dim=1)
        q = self.norm_q(q).reshape(n, self.heads, self.width, h * w).transpose(-1, -2)
        v = self.norm_v(v).reshape(n, self.depth, h * w).transpose(-1, -2)
        k = F.softmax(k.reshape(n, self.width, h * w), dim=-1)
        content = q @ (k @ v).unsqueeze(1)
        position = (q.unsqueeze(-2) @ self.position_lambdas(v, h, w)).squeeze(-2)
        return (content + position).transpose(-1, -2).reshape(n, c, h, w)


@network("lambda_resnet", 3, 32, 32)
def lambda_resnet():
    local = bottleneck(16, 32, 1, attention_middle(16, LambdaLayer(16, 8, reach=5)))
    whole = bottleneck(32, 32, 1, attention_middle(16, LambdaLayer(16, 4)))
    return classifier(32, stem(), bottleneck(8, 16), local, nn.AvgPool2d(2), whole)


class GlobalContext(nn.Module):
    """GCNet's block: one context for all places; it scales the channels or is added to them."""

    def __init__(self, channels, scale):
        super().__init__()
        hidden, self.scale = channels // 2, scale
        self.attention = nn.Conv2d(channels, 1, 1)
        first = [nn.Conv2d(channels, hidden, 1), nn.LayerNorm([hidden, 1, 1]), nn.ReLU()]
        self.mlp = nn.Sequential(*first, nn.Conv2d(hidden, channels, 1))

    def forward(self, x):
        n, c, h, w = x.shape
        attention = self.attention(x).reshape(n, 1, h * w).softmax(-1).unsqueeze(3)
        context = (x.reshape(n, c, h * w).unsqueeze(1) @ attention).view(n, c, 1, 1)
        change = self.mlp(context)
        return x * torch.sigmoid(change) if self.scale else x + change


@network("gc_resnet", 3, 32, 32)
def gc_resnet():
    blocks = [basic(8, 8, 1, GlobalContext(8, scale=True)), basic(8, 16, 2, GlobalContext(16, scale=False))]
    return classifier(16, stem(), *blocks)


class NonLocal(nn.Module):
    """A non-local block: every place against every place, by a softmax or by the mean of products."""

    def __init__(self, channels, softmax):
        super().__init__()
        self.softmax, self.hidden = softmax, channels // 2
        self.theta, self.phi, self.g = (nn.Conv2d(channels, self.hidden, 1) for _ in range(3))
        self.last = conv_norm(self.hidden, channels, act=None)

    def forward(self, x):
        n = x.size(0)
        g = self.g(x).view(n, self.hidden, -1).permute(0, 2, 1)
        theta = self.theta(x).view(n, self.hidden, -1).permute(0, 2, 1)
        phi = self.phi(x).view(n, self.hidden, -1)
        f = torch.matmul(theta, phi)
        f = F.softmax(f, dim=-1) if self.softmax else f / f.size(-1)
        y = torch.matmul(f, g).permute(0, 2, 1).contiguous()
        return self.last(y.view(n, self.hidden, *x.size()[2:])) + x


def nonlocal_resnet(softmax):
    first = [basic(8, 16), NonLocal(16, softmax)]
    return classifier(16, stem(), *first, basic(16, 16, 2), NonLocal(16, softmax))


@network("nonlocal_softmax", 3, 32, 32)
def nonlocal_softmax():
    return nonlocal_resnet(True)


@network("nonlocal_dot", 3, 32, 32)
def nonlocal_dot():
    return nonlocal_resnet(False)

"""Non-local U-Net: its count, and attention against its definition."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import on_meta, parameters  # noqa: E402

from medseg_fast import nn  # noqa: E402
from medseg_fast.nn._nonlocal_unet import GlobalAggregation  # noqa: E402


def test_parameters():
    model = on_meta(nn.nonlocal_unet)
    assert parameters(model) == 1_821_124
    assert on_meta(lambda: model(torch.empty(1, 2, 32, 32, 32))).shape == (1, 4, 32, 32, 32)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("up", [False, True])
def test_global_aggregation(ndim, up):
    """softmax(Q K' / sqrt(channels of a head)) V, pixel by pixel."""
    torch.manual_seed(1)
    block = GlobalAggregation(ndim, 5, 6, 2, up=up, rate=0.0).double().eval()
    x = torch.randn(2, 5, *(3, 4, 2)[:ndim], dtype=torch.float64)
    with torch.no_grad():
        found = block(x)
        query = block.query(x)
        assert query.shape[2:] == tuple(n * (1 + up) for n in x.shape[2:])
        parts = []
        for head in range(2):
            channels = slice(3 * head, 3 * head + 3)
            q, k, v = (y[:, channels].flatten(2) for y in (query, block.key(x), block.value(x)))
            weights = torch.einsum("ncq,nck->nqk", q, k).div(3**0.5).softmax(2)
            parts.append(torch.einsum("nqk,nck->ncq", weights, v))
        seen = torch.cat(parts, 1).reshape(query.shape)
        torch.testing.assert_close(found, block.out(seen))


def test_every_pixel_sees_the_whole_image():
    torch.manual_seed(0)
    model = nn.nonlocal_unet(1, 2, ndim=2, width=8, norm="group").double().eval()
    x = torch.randn(1, 1, 24, 24, dtype=torch.float64, requires_grad=True)
    model(x)[0, :, :2, :2].sum().backward()
    assert (x.grad[0, 0, 16:, 16:] != 0).any()

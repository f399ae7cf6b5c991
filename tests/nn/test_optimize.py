"""`medseg_fast.nn.optimize`: plans give what the modules give."""

import functools
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _interrupt import DELAY, MOST  # noqa: E402
from _networks import SMALL, small  # noqa: E402

import medseg_fast  # noqa: E402
from medseg_fast import nn  # noqa: E402


def _seeded(model):
    """Norms as if trained: other than mean 0 and variance 1."""
    torch.manual_seed(1)
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@functools.cache
def _compiled(name):
    """A small network, an input, its result, and a plan for it."""
    model, x = small(name)
    _seeded(model)
    with torch.no_grad():
        expected = model(x)
    return model, x, expected, nn.optimize(model, x)


def assert_close(result, expected):
    """Within 1e-4 of the largest value: what a float32 plan promises; typically 1e-6."""
    result, expected = np.asarray(result), np.asarray(expected)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", SMALL)
def test_networks(name):
    _, x, expected, plan = _compiled(name)
    before = x.clone()
    result = plan(x)
    assert isinstance(result, torch.Tensor)
    assert_close(result, expected)
    assert torch.equal(x, before)
    assert plan.output_shapes == [tuple(expected.shape)]
    assert not plan.fallbacks


@pytest.mark.parametrize("name", ["unet bilinear", "nonlocal_unet", "vnet", "segnet", "pspnet"])
def test_threads_do_not_change_the_result(name):
    _, x, _, plan = _compiled(name)
    results = []
    for threads in (1, 2, 5):
        with medseg_fast.num_threads(threads):
            results.append(plan(x))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_wide_layers_go_by_winograd():
    torch.manual_seed(0)
    model = _seeded(nn.unet(1, 2, widths=(16, 32), padding="same", norm="batch"))
    x = torch.randn(1, 1, 40, 36)
    plan = nn.optimize(model, x)
    assert "winograd 4x4" in str(plan)
    with torch.no_grad():
        assert_close(plan(x), model(x))


@pytest.mark.parametrize("name", [name for name in SMALL if SMALL[name][3]])
def test_odd_sizes(name, tmp_path):
    """Several images of a size that the network must pad: the plan, and the plan from its file."""
    model, _ = small(name)
    x = torch.randn(3, 1, *SMALL[name][3])
    plan = nn.optimize(model.eval(), x)
    with torch.no_grad():
        assert_close(plan(x), model(x))
    plan.save(tmp_path / "plan")
    assert torch.equal(nn.load_plan(tmp_path / "plan")(x), plan(x))


def test_arrays():
    """NumPy in, NumPy out; any memory order; read-only."""
    _, x, expected, plan = _compiled("unet")
    array = x.numpy().copy()
    array.setflags(write=False)
    result = plan(array)
    assert type(result) is np.ndarray
    assert result.dtype == np.float32
    assert_close(result, expected)
    assert_close(plan(np.asfortranarray(array)), expected)
    assert_close(plan(x.to(memory_format=torch.channels_last)), expected)


def test_results_are_not_overwritten():
    _, x, _, plan = _compiled("unet")
    first = plan(x)
    kept = first.clone()
    plan(x + 1)
    assert torch.equal(first, kept)


def test_results_in_given_arrays():
    _, x, _, plan = _compiled("unet")
    expected = plan(x.numpy())
    (shape,) = plan.output_shapes
    out = np.full(shape, np.nan, np.float32)
    assert plan(x.numpy(), out=[out]) is out
    np.testing.assert_array_equal(out, expected)
    for wrong in ([], [out, out], [out[..., :-1]], [out.astype(float)], [out[..., ::-1]]):
        with pytest.raises(ValueError, match="plan: out must be writable C-contiguous float32"):
            plan(x.numpy(), out=wrong)
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.PixelUnshuffle(2))
    x = torch.rand(1, 1, 10, 10)
    partly = nn.optimize(layers.eval(), x)
    assert partly.fallbacks
    with pytest.raises(ValueError, match="plan: out must be None where torch runs layers"):
        partly(x.numpy(), out=[out])


def test_memory():
    """One block for all maps: far below their sum; concatenations are not copied."""
    model = nn.unet(1, 2, widths=(8, 16, 32, 64), padding="same").eval()
    x = torch.zeros(1, 1, 64, 64)
    plan = nn.optimize(model, x)
    assert plan.peak_memory < 0.5 * plan.naive_memory
    # The top level: the concatenated map (8 + 8 channels), and one of 8 beside it.
    full = 64 * 64 * 4
    assert plan.peak_memory <= 32 * full
    assert not any("copy" in step.layer for step in plan.steps)


def test_report():
    _, _, _, plan = _compiled("unet bilinear")
    text = str(plan)
    for word in ("encoder.0.conv1", "+ relu + max pool", "linear interpolation", "MB"):
        assert word in text
    assert "no layer is left to torch" in text
    assert len(plan.steps) == plan._core.count()
    assert repr(plan).startswith("<Plan of ")


def test_concurrent_calls():
    """Two threads share a plan: calls wait for one another."""
    _, x, _, plan = _compiled("unet 3D")
    inputs = [x + i for i in range(4)]
    expected = [plan(each) for each in inputs]
    found = [None] * 4

    def work(i):
        for _ in range(20):
            found[i] = plan(inputs[i])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result, wanted in zip(found, expected, strict=True):
        assert torch.equal(result, wanted)


def test_model_is_left_as_it_was():
    model, x = small("unet bilinear")
    model.train()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    plan = nn.optimize(model, x)
    assert model.training
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    before = plan(x)
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert torch.equal(plan(x), before)


@pytest.mark.parametrize("name", SMALL)
def test_save_and_load(name, tmp_path):
    _, x, _, plan = _compiled(name)
    path = tmp_path / "a.plan"
    plan.save(path)
    again = nn.load_plan(path)
    assert torch.equal(again(x), plan(x))
    assert str(again) == str(plan)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.plan"]


def test_save_writes_the_weights_that_were_compiled(tmp_path):
    torch.manual_seed(0)
    model, x = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 9, 8)
    plan = nn.optimize(model, x)
    with torch.no_grad():
        model.weight.zero_()
    plan.save(tmp_path / "plan")
    assert torch.equal(nn.load_plan(tmp_path / "plan")(x), plan(x))


def test_weights_are_copied_where_no_temporary_file_can_be(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError("read-only")

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    torch.manual_seed(0)
    model, x = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 9, 8)
    plan = nn.optimize(model, x)
    with torch.no_grad():
        model.weight.zero_()
    plan.save(tmp_path / "plan")
    assert torch.equal(nn.load_plan(tmp_path / "plan")(x), plan(x))


_WITHOUT_TORCH = """
import sys
import numpy as np
from medseg_fast import nn
plan = nn.load_plan(sys.argv[1], threads=1)
np.save(sys.argv[2], plan(np.load(sys.argv[3])))
assert "torch" not in sys.modules
"""


def test_a_saved_plan_needs_no_torch(tmp_path):
    _, x, _, plan = _compiled("unet bilinear")
    plan.save(tmp_path / "plan")
    np.save(tmp_path / "x.npy", x.numpy())
    files = [str(tmp_path / name) for name in ("plan", "result.npy", "x.npy")]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "result.npy"), plan(x).numpy())


_ONE_THREAD = """
import os, sys
import numpy as np
import medseg_fast as ms
from medseg_fast import nn
def tasks():
    return len(os.listdir("/proc/self/task"))
before = tasks()
with ms.num_threads(1):
    plan = nn.load_plan(sys.argv[1])
    plan(np.zeros(plan.input_shapes[0], np.float32))
    assert tasks() == before, (tasks(), before)
with ms.num_threads(3):
    plan(np.zeros(plan.input_shapes[0], np.float32))
    assert tasks() == before + 2, (tasks(), before)
"""


def test_a_plan_follows_the_callers_threads(tmp_path):
    model = nn.unet(1, 2, widths=(16, 32), padding="same").eval()
    nn.optimize(model, torch.zeros(1, 1, 128, 128)).save(tmp_path / "plan")
    done = subprocess.run(
        [sys.executable, "-c", _ONE_THREAD, str(tmp_path / "plan")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


_INTERRUPTED = """
    import sys
    import numpy as np
    from medseg_fast import nn
    plan = nn.load_plan(sys.argv[1])
    x = np.zeros(plan.input_shapes[0], np.float32)
    expected = plan(x)
    print(delay(lambda: plan(x), 0.05))
    assert np.array_equal(plan(x), expected)
"""


def test_interrupts_stop_a_call(tmp_path):
    model = nn.unet(1, 2, widths=(16, 32), padding="same").eval()
    nn.optimize(model, torch.zeros(1, 1, 1024, 1024)).save(tmp_path / "plan")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DELAY + _INTERRUPTED), str(tmp_path / "plan")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < MOST


def test_files_that_are_no_plans(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"12345678", b"\xff" * 64, (2).to_bytes(8, "little") + b"{}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="load_plan: path must name a saved plan"):
            nn.load_plan(path)
    with pytest.raises(FileNotFoundError):
        nn.load_plan(tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (lambda x: (x[:1],), ValueError, r"plan: input must have the shape it was made for"),
        (lambda x: (x.double(),), TypeError, "plan: input must be float32, got float64"),
        (lambda x: (x.numpy().astype(int),), TypeError, "plan: input must be float32, got int64"),
        (lambda x: (x, x), TypeError, "plan: takes 1 input, got 2"),
        (lambda x: (), TypeError, "plan: takes 1 input, got 0"),
    ],
)
def test_wrong_inputs(arguments, error, message):
    _, x, _, plan = _compiled("unet")
    with pytest.raises(error, match=message):
        plan(*arguments(x))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "float16"}, ValueError, "optimize: precision must be one of 'float32'"),
        ({"threads": 0}, ValueError, "optimize: threads must be from 1 to 1024, got 0"),
        ({"threads": 1.5}, TypeError, "optimize: threads must be an integer, got 1.5"),
    ],
)
def test_wrong_arguments(options, error, message):
    model, x = small("unet")
    with pytest.raises(error, match=message):
        nn.optimize(model, x, **options)
    with pytest.raises(TypeError, match="optimize: model must be a torch module, got builtin"):
        nn.optimize(torch.relu, x)
    with pytest.raises(TypeError, match=r"optimize: example must be float32, got torch\.float64"):
        nn.optimize(model, x.double())


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_agrees_on_classes(name):
    """Random weights are the hardest case: logits lie close together."""
    model, x, expected, _ = _compiled(name)
    found = nn.optimize(model, x, precision="bfloat16")(x)
    assert (found.argmax(1) == expected.argmax(1)).float().mean() >= 0.98


def test_bfloat16():
    """Half the memory; results agree where bfloat16's 8 bits do."""
    for name in ("unet bilinear", "segnet", "vnet", "pspnet"):
        model, x, expected, plan = _compiled(name)
        narrow = nn.optimize(model, x, precision="bfloat16")
        result = narrow(x)
        assert result.dtype == torch.float32
        assert narrow.peak_memory < 0.8 * plan.peak_memory
        error = (result - expected).norm() / expected.norm()
        assert error < 0.05
    left = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.LogSigmoid())
    with pytest.raises(NotImplementedError, match="layers left to torch"):
        nn.optimize(left, torch.zeros(1, 1, 9, 8), precision="bfloat16")

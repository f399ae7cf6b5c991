"""Tensors in, tensors out: as NumPy says, registered, traceable, without surprises."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from _examples import example
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._dispatch import OPERATIONS, Operation, operation
from medseg_fast.stream import ThresholdPlan

torch = pytest.importorskip("torch")
_torch = pytest.importorskip("medseg_fast._torch")

DTYPES = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split()


def to_torch(value):
    if isinstance(value, list):
        return [to_torch(each) for each in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def assert_equal(tensor, expected):
    """The same values, shape and dtype; arrays and scalars became tensors."""
    if isinstance(expected, tuple):
        assert len(tensor) == len(expected)
        for one, other in zip(tensor, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, (np.ndarray, np.generic)):
        assert isinstance(tensor, torch.Tensor)
        assert tensor.numpy().dtype == expected.dtype
        assert tensor.shape == expected.shape
        assert_array_equal(tensor.numpy(), expected)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equals_numpy(name, dtype):
    args, kwargs = example(name, dtype)
    function = OPERATIONS[name].function
    tensors = [to_torch(a) for a in args], {k: to_torch(v) for k, v in kwargs.items()}
    if not any(isinstance(t, torch.Tensor) for t in (*tensors[0], *tensors[1].values())):
        pytest.skip("takes no image")
    assert_equal(function(*tensors[0], **tensors[1]), function(*args, **kwargs))


@pytest.mark.parametrize("name", sorted(n for n, op in OPERATIONS.items() if op.result))
def test_registered_operator_is_sound(name):
    """Schema, fake kernel and autograd registration agree with what the kernel does."""
    args, kwargs = example(name, np.float32)
    args, kwargs = [to_torch(a) for a in args], {k: to_torch(v) for k, v in kwargs.items()}
    registered = OPERATIONS[name].torch
    named = registered.bind(args, kwargs)
    tests = ("test_schema", "test_faketensor")
    if name == "threshold":  # a second each
        tests += ("test_autograd_registration", "test_aot_dispatch_dynamic")
    if registered.typed and all(p.fits(named.get(p.name, p.default)) for p in registered.pure):
        torch.library.opcheck(registered.typed, (), named, test_utils=tests)
    tensors = []
    literal = _torch._torch_schema.to_literal(named, tensors)
    torch.library.opcheck(registered.literal, (tensors, literal), test_utils=tests)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    image = np.array([[0, 1], [1, 0]]).astype(dtype)
    assert_equal(ms.threshold(torch.from_numpy(image), 1), ms.threshold(image, 1))


def test_cpu_tensors_are_seen_without_a_copy(monkeypatch):
    seen = []
    op = Operation(lambda image: seen.append(image) or np.zeros(2))
    image = torch.zeros(3, 4, 5)
    _torch.call(op, (image.transpose(0, 2),), {})
    assert seen[0].ctypes.data == image.data_ptr()
    assert seen[0].shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("intensity_image", lambda image, labels: ms.regionprops(labels, image)[0].intensity_mean),
        ("costs", lambda image, _: ms.MCP(image).find_costs([(0, 0)])[0]),
        ("image", lambda image, _: ms.CannyPlan((5, 6), np.float32)(image)),
        ("image", lambda image, _: ThresholdPlan((5, 6), np.float32, 0.5)(image)),
        ("sinkcaps", lambda image, _: ms.GraphFloat().add_grid_tedges([], 1.0, image)),
    ],
)
def test_where_no_tensor_comes_back(name, use):
    image = torch.rand((5, 6), generator=torch.Generator().manual_seed(1))
    labels = np.ones((5, 6), int)
    if name != "sinkcaps":
        assert_array_equal(use(image.clone().requires_grad_(), labels), use(image.numpy(), labels))
    with pytest.raises(TypeError, match=f": {name} must be .*BFloat16"):
        use(image.bfloat16(), labels)


def test_non_contiguous_parameter_and_subclass():
    image = torch.arange(24.0).reshape(4, 6)
    expected = (image.t() >= 5)[::2]
    assert torch.equal(ms.threshold(image.t()[::2], 5), expected)
    mask = ms.threshold(torch.nn.Parameter(image), 5)
    assert type(mask) is torch.Tensor
    assert not mask.requires_grad

    class Scan(torch.Tensor):
        pass

    assert isinstance(ms.threshold(image.as_subclass(Scan), 5), Scan)


def test_number_given_as_tensor_and_infinity():
    image = torch.arange(24.0)
    assert ms.threshold(image, torch.tensor(5.0)).sum() == 19
    assert ms.threshold(image, 5, torch.tensor(7)).sum() == 3
    assert ms.threshold(image, float("-inf"), 7).sum() == 8
    with pytest.raises(ValueError, match="NaN"):
        ms.threshold(image, float("nan"))


def test_out_is_filled_and_returned():
    image, out = torch.arange(4), torch.zeros(4, dtype=torch.bool)
    assert ms.threshold(image, 2, out=out) is out
    assert out.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: torch.zeros(2, dtype=torch.bfloat16), TypeError, r"bfloat16; pass image.float"),
        (lambda: torch.zeros(2, dtype=torch.complex64), TypeError, "got torch.complex64"),
        (lambda: torch.zeros(2, 2).to_sparse(), TypeError, "must be dense"),
    ],
)
def test_unsupported_tensors(make, error, message):
    with pytest.raises(error, match=f"threshold: .*{message}"):
        ms.threshold(make(), 1)


def test_other_devices_are_named():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        image = torch.empty(3, device="cuda")
        assert ms.threshold(image, 1).device.type == "cuda"  # traced: no GPU is asked
    message = "threshold_local: no implementation for tensors on cuda:0"
    with pytest.raises(NotImplementedError, match=message):
        ms.threshold_local(image, 3)


def test_gpu_kernels_are_registered_where_there_are_some():
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    for name, op in OPERATIONS.items():
        if op.torch is not None:
            assert has_kernel(f"medseg_fast::{name}.literal", "CUDA") == (op.gpu is not None)


def test_wrong_calls_get_the_functions_own_errors():
    image = torch.zeros(3)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 't'"):
        ms.threshold(image)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lower'"):
        ms.threshold(image, 1, lower=2)
    with pytest.raises(TypeError, match="multiple values for argument 'image'"):
        ms.threshold(image, 1, image=image)
    with pytest.raises(TypeError, match="must be a number, got 'a'"):
        ms.threshold(image, "a")


def both(image, t):
    return (ms.threshold(image, t) & (image < 100)).sum()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("t", [3, 2.5, torch.tensor(2.5)], ids=str)
def test_compiles_into_one_graph(backend, t):
    compiled = torch.compile(both, fullgraph=True, backend=backend)
    for shape in [(4, 6), (5, 7), (9, 7)]:  # the later ones with symbolic shapes
        image = torch.randn(shape) * 10
        assert compiled(image, t) == both(image, t)


def test_symbolic_traces_hold_calls_as_nodes():
    """torch.fx's own tracing, which passes stand-ins for tensors."""

    class Module(torch.nn.Module):
        def forward(self, image, boxes, features):
            mask = ms.threshold(image, 3) & (image < 100)
            levels = [features, features[..., ::2, ::2]]
            pooled = ms.nn.functional.multiscale_roi_align(
                levels, boxes, output_size=2, scales=[1.0, 0.5]
            )
            one = ms.nn.functional.roi_align(features, boxes, output_size=(2, 2))
            return mask.sum(), pooled, one

    given = (
        torch.randn(5, 6) * 10,
        torch.tensor([[0.0, 0, 0, 7, 6], [0, 2, 3, 8, 9]]),
        torch.rand(1, 3, 20, 20),
    )
    traced = torch.fx.symbolic_trace(Module())
    targets = [n.target for n in traced.graph.nodes if n.op == "call_function"]
    assert ms.threshold in targets
    assert ms.nn.functional.roi_align in targets
    for got, expected in zip(traced(*given), Module()(*given), strict=True):
        assert torch.equal(got, expected)
    assert torch.equal(torch.fx.Interpreter(traced).run(*given)[1], Module()(*given)[1])


THRESHOLDS = ["otsu", "yen", "isodata", "triangle", "minimum", "li", "mean"]


@pytest.mark.parametrize("method", THRESHOLDS)
def test_found_threshold_compiles_into_one_graph(method):
    find = getattr(ms, f"threshold_{method}")
    args, _ = example(f"threshold_{method}", np.float32)
    image = torch.from_numpy(args[0])

    def segment(image):
        return ms.threshold(image, find(image))

    mask = torch.compile(segment, fullgraph=True, backend="aot_eager")(image)
    assert_array_equal(mask.numpy(), ms.threshold(args[0], find(args[0])))
    assert 0 < mask.sum() < mask.numel()


def test_multiotsu_compiles_into_one_graph():
    def classes(image):
        return torch.bucketize(image, ms.threshold_multiotsu(image, classes=4))

    image = torch.from_numpy(example("threshold_multiotsu", np.float32)[0][0])
    compiled = torch.compile(classes, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image), classes(image))
    assert classes(image).unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", THRESHOLDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_of_a_threshold_does_not_depend_on_the_data(method, dtype):
    """NumPy's scalar is a constant image's pixel, as scikit-image's; a tensor's dtype stays."""
    find = getattr(ms, f"threshold_{method}")
    constant = torch.ones(4, 6).to(getattr(torch, dtype))
    two = constant.clone()
    two[:2] = 0
    means = method in ("mean", "li")
    expected = torch.float64 if means or dtype == "bool" else torch.int64
    if dtype.startswith("float"):
        expected = constant.dtype
    if method != "minimum":
        t = find(constant)
        assert t.shape == ()
        assert (t.dtype, t.item()) == (expected, 1)
        assert find(constant.numpy()) == 1
    if method != "minimum" and (method, dtype) != ("li", "bool"):
        assert find(two).dtype == expected


def test_thresholds_of_a_given_histogram():
    image = torch.tensor([0, 4])
    counts, centers = torch.tensor([3, 5, 0, 1, 7]), torch.arange(5) / 2
    for hist in (counts, (counts, centers), (counts, [0.0, 0.5, 1.0, 1.5, 2.0])):
        arrays = tuple(map(np.asarray, hist)) if isinstance(hist, tuple) else hist.numpy()
        assert_equal(
            ms.threshold_otsu(image, hist=hist), ms.threshold_otsu(image.numpy(), hist=arrays)
        )
    compiled = torch.compile(
        lambda c: ms.threshold_otsu(hist=c) + 1, fullgraph=True, backend="aot_eager"
    )
    assert compiled(counts) == ms.threshold_otsu(hist=counts.numpy()) + 1


def test_all_isodata_thresholds_run_outside_the_graph():
    image = torch.tensor([0, 10, 10, 30, 60, 100])
    compiled = torch.compile(
        lambda x: ms.threshold_isodata(x, return_all=True) + 1, backend="aot_eager"
    )
    assert compiled(image).tolist() == [47, 62]


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a compiler")
def test_compiles_with_inductor():
    image = torch.randn(6, 7)
    assert torch.compile(both, fullgraph=True)(image, 0.5) == both(image, 0.5)


def test_graph_breaks_cleanly_around_what_it_cannot_hold():
    def into(image):
        out = torch.zeros(image.shape, dtype=torch.bool)
        ms.threshold(image * 2, 3, out=out)
        return out.sum() + 1

    image = torch.arange(5.0)
    assert torch.compile(into, backend="aot_eager")(image) == into(image)


def test_exports():
    class Segment(torch.nn.Module):
        def forward(self, image):
            return ms.threshold(image, 1.5)

    image = torch.randn(3, 4)
    program = torch.export.export(Segment(), (image,))
    assert "medseg_fast.threshold.default" in str(program.graph)
    assert torch.equal(program.module()(image), image >= 1.5)


@pytest.fixture
def declare():
    """Declares an operation for one test."""
    before = set(OPERATIONS)
    yield lambda body, **options: operation(**options)(body)
    for name in set(OPERATIONS) - before:
        del OPERATIONS[name]


def test_gradients_are_refused_not_dropped(declare):
    def doubled(image: np.typing.ArrayLike) -> np.typing.NDArray[np.float64]:
        return np.asarray(image) * 2

    double = declare(doubled, result=lambda image: (image.shape, image.dtype))
    image = torch.ones(3, requires_grad=True)
    result = double(image)
    with pytest.raises(NotImplementedError, match="doubled: no gradient"):
        result.sum().backward()
    with torch.no_grad():
        assert double(image).tolist() == [2, 2, 2]


def _weighted(images: Any, weight: np.typing.ArrayLike, power: int = 1) -> Any:
    return sum(np.asarray(image) for image in images) * np.asarray(weight) ** power


def _weighted_gradient(given, results, gradients):
    (result,), (gradient,) = results, gradients
    by_sum = gradient * given["weight"] ** given["power"]
    by_weight = gradient * result * given["power"] / given["weight"]
    return {"images": [by_sum] * len(given["images"]), "weight": by_weight}


def _weighted_like(images, weight, power=1):
    return weight.shape, weight.dtype


def test_gradients_reach_tensors_and_lists_of_them(declare):
    weighted = declare(_weighted, result=_weighted_like, gradient=_weighted_gradient)
    rng = torch.Generator().manual_seed(1)
    a, b, weight = (
        torch.rand(3, 4, dtype=torch.float64, generator=rng, requires_grad=True) for _ in range(3)
    )
    call = lambda a, b, weight: weighted([a, b], weight, power=3)  # noqa: E731
    assert torch.autograd.gradcheck(call, (a, b, weight))
    call(a, b.detach(), weight).sum().backward()
    traced = torch.autograd.grad(
        torch.compile(call, backend="aot_eager", fullgraph=True)(a, b.detach(), weight).sum(),
        (a, weight),
    )
    assert torch.equal(traced[0], a.grad)
    assert torch.equal(traced[1], weight.grad)


def test_results_never_alias_inputs(declare):
    def unchanged(image: np.typing.ArrayLike) -> np.typing.NDArray[np.float64]:
        return np.asarray(image)[::-1]

    flip = declare(unchanged, result=lambda image: (image.shape, image.dtype))
    image = torch.arange(3.0)
    result = flip(image)
    result += 1
    assert image.tolist() == [0, 1, 2]
    assert result.tolist() == [3, 2, 1]


def test_tuples_scalars_and_sequences(declare):
    def extremes(
        image: np.typing.ArrayLike, weights: float | tuple[float, ...] = 1.0
    ) -> tuple[np.float64, np.typing.NDArray[np.float64]]:
        array = np.asarray(image) * np.sum(weights)
        return array.max(), array.astype(">f8")

    call = declare(
        extremes, result=lambda image, weights=1.0: (((), np.float64), (image.shape, np.float64))
    )

    def traced(image):
        most, array = call(image, weights=[1.0, float("inf")])
        return call(image * 0, 2)[0] + most + array[0]

    image = torch.arange(1.0, 4.0, dtype=torch.float64)
    compiled = torch.compile(traced, fullgraph=True, backend="aot_eager")
    assert compiled(image) == traced(image) == np.inf
    most, array = call(image, (1.0, 0.5))
    assert most.shape == ()
    assert (most, array.tolist()) == (4.5, [1.5, 3, 4.5])


def test_data_dependent_results_run_outside_the_graph(declare):
    def positions(image: np.typing.ArrayLike) -> np.typing.NDArray[np.int64]:
        return np.flatnonzero(np.asarray(image))

    find = declare(positions)
    image = torch.tensor([0, 3, 0, 1])
    assert torch.compile(lambda x: find(x + 0) + 1, backend="eager")(image).tolist() == [2, 4]


class _DispatchMode(torch.utils._python_dispatch.TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen = [*getattr(self, "seen", []), function]
        return function(*args, **(kwargs or {}))


class _FunctionMode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen = [*getattr(self, "seen", []), function]
        return function(*args, **(kwargs or {}))


def test_what_watches_a_call_sees_the_operator():
    """Plain calls go past the dispatcher, but not while anything listens there."""
    image = torch.rand(5, 6)
    operator = torch.ops.medseg_fast.sobel.literal
    for mode in (_DispatchMode(), _FunctionMode()):
        with mode:
            ms.sobel(image)
        assert operator in mode.seen
    with torch.profiler.profile() as profile:
        ms.sobel(image)
    assert "medseg_fast::sobel" in [event.name for event in profile.events()]
    traced = torch.jit.trace(ms.sobel, image)
    assert "medseg_fast::sobel" in str(traced.graph)
    with torch._subclasses.FakeTensorMode() as fake:
        assert isinstance(ms.sobel(fake.from_tensor(image)), torch._subclasses.FakeTensor)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_plain_calls_go_past_the_dispatcher(monkeypatch, mode):
    image = torch.rand(5, 6)
    expected = ms.sobel(image.numpy())
    monkeypatch.setattr(OPERATIONS["sobel"].torch, "typed", None)
    monkeypatch.setattr(OPERATIONS["sobel"].torch, "literal", None)
    with mode():
        assert_equal(ms.sobel(image), expected)
        made_here = image.clone()
        assert_equal(ms.sobel(made_here), expected)
        assert ms.sobel(made_here).is_inference() is (mode is torch.inference_mode)
    with torch.no_grad():
        assert not ms.sobel(torch.nn.Parameter(image)).requires_grad


def test_without_the_questions_calls_take_the_dispatcher(monkeypatch):
    image, calls = torch.rand(5, 6), []
    literal = OPERATIONS["sobel"].torch.literal
    monkeypatch.setattr(
        OPERATIONS["sobel"].torch, "literal", lambda *given: calls.append(1) or literal(*given)
    )
    monkeypatch.setattr(_torch, "_PLAIN_KEYS", [])
    assert_equal(ms.sobel(image), ms.sobel(image.numpy()))
    assert calls

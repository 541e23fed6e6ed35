"""Other libraries on the same work: flows of the same shapes, and NMF with the same fixed dictionary.

Our own code in another way is a peer too: fused by torch.compile, with the products that torch chooses, and in single
precision.  All libraries get the products that torch chooses: whoever uses them does, too.

Every library gets its own coupling with one network for scale and shift, the activation of ours where the
choice is given, and random weights; speed does not depend on them.
"""

import itertools
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import normflows
import numpy as np
import torch
from FrEIA import framework
from FrEIA import modules as freia
from sklearn.decomposition import non_negative_factorization
from torch import Tensor, nn
from torchnmf.nmf import NMF
from zuko import transforms

from ddslib import machine
from ddslib.cuda import WARM_UP
from ddslib.decomposition import decompose
from ddslib.dictionaries import SampleDictionary
from ddslib.flows import ConditionalGlow, RealNVP, standard_normal_log_density
from ddslib.precision import fast_products, pays, tensor_cores

from .methods import KINDS, MAKERS, NAMES, Size, flow_of, searches

REPEATS = 5
PATIENCE = 20  # times our own time, after which a peer that is not there yet is no longer waited for
LEAK = 0.01


class FreiaFlow(nn.Module):
    """FrEIA's one-sided coupling between its random permutations, or its ActNorms and fixed dense mixings."""

    library = "FrEIA"

    def __init__(self, dimensions: int, steps: int, hidden: tuple[int, ...], mixing: bool):
        super().__init__()
        self.chain = framework.SequenceINN(dimensions)
        activation = nn.LeakyReLU if mixing else nn.SELU
        for seed in range(steps):
            if mixing:
                self.chain.append(freia.ActNorm)
                self.chain.append(freia.FixedLinearTransform, M=torch.linalg.qr(torch.randn(dimensions, dimensions)).Q)
            else:
                self.chain.append(freia.PermuteRandom, seed=seed)
            self.chain.append(
                freia.AffineCouplingOneSided,
                subnet_constructor=lambda inputs, outputs: dense((inputs, *hidden, outputs), activation),
                clamp=1.0, clamp_activation="TANH",
            )  # fmt: skip

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.chain(x)

    def back(self, z: Tensor) -> Tensor:
        return self.chain(z, rev=True)[0]


class NormflowsFlow(nn.Module):
    """normflows' coupling (whose scale has no bound) between its permutations, or its ActNorms and LU mixings."""

    library = "normflows"

    def __init__(self, dimensions: int, steps: int, hidden: tuple[int, ...], mixing: bool):
        super().__init__()
        half = dimensions // 2
        layers = []
        for _ in range(steps):
            if mixing:
                layers += [normflows.flows.ActNorm(dimensions), normflows.flows.InvertibleAffine(dimensions)]
            else:
                layers += [normflows.flows.Permute(dimensions, mode="shuffle")]
            network = normflows.nets.MLP([half, *hidden, dimensions], leaky=LEAK)
            layers += [normflows.flows.AffineCouplingBlock(network)]
        self.layers = nn.ModuleList(layers)

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = 0
        for layer in self.layers:
            x, log_det = layer.inverse(x)
            total = total + log_det
        return x, total

    def back(self, z: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            z, _ = layer(z)
        return z


class ZukoFlow(nn.Module):
    """zuko's coupling between its permutations, or between element-wise affine maps and LU mixings."""

    library = "zuko"

    def __init__(self, dimensions: int, steps: int, hidden: tuple[int, ...], mixing: bool):
        super().__init__()
        half = dimensions // 2
        self.mask = torch.arange(dimensions) < half
        activation = nn.LeakyReLU if mixing else nn.SELU
        self.networks = nn.ModuleList(dense((half, *hidden, dimensions), activation) for _ in range(steps))
        self.orders = [torch.randperm(dimensions) for _ in range(steps)]
        self.mixings = nn.ParameterList()
        self.norms = nn.ParameterList()
        if mixing:
            rotation = torch.linalg.qr(torch.randn(dimensions, dimensions)).Q
            self.mixings.extend(torch.linalg.lu_factor(rotation).LU for _ in range(steps))
            self.norms.extend(torch.zeros(2, dimensions) for _ in range(steps))

    def _transform(self) -> transforms.ComposedTransform:
        return transforms.ComposedTransform(*itertools.chain(*map(self._step, range(len(self.networks)))))

    def _step(self, step: int) -> Iterator[transforms.Transform]:
        def affine(x1: Tensor) -> transforms.Transform:
            s, t = self.networks[step](x1).chunk(2, dim=-1)
            return transforms.DependentTransform(transforms.AffineTransform(t, s.tanh().exp()), 1)

        if self.mixings:
            scale, shift = self.norms[step]
            yield transforms.DependentTransform(transforms.AffineTransform(shift, scale.exp()), 1)
            yield transforms.LULinearTransform(self.mixings[step])
        else:
            yield transforms.PermutationTransform(self.orders[step])
        yield transforms.CouplingTransform(affine, self.mask)

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._transform().call_and_ladj(x)

    def back(self, z: Tensor) -> Tensor:
        return self._transform().inv(z)


FLOWS = (FreiaFlow, NormflowsFlow, ZukoFlow)


def dense(widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
    between = itertools.chain(*((layer, activation()) for layer in layers[:-1]))
    return nn.Sequential(*between, layers[-1])


@dataclass(frozen=True)
class Pair:
    """The same work, by us and by a peer."""

    work: str
    ours: Callable[[], object]
    library: str
    theirs: Callable[[], object]


def flow_pairs(size: Size, device: torch.device) -> Iterator[Pair]:
    """RealNVP, 60 flows in a loop or compiled against our stack, and Glow; with the laptop's shapes."""
    yield from _note_flow_pairs(size, device)
    yield from _glow_pairs(size, device)


def _note_flow_pairs(size: Size, device: torch.device) -> Iterator[Pair]:
    recipe, N, K = size.profile.note_flows, size.sources, size.bins
    stack = flow_of("note_flows", size, device)
    frozen = flow_of("note_flows", size, device).freeze()
    codes = torch.randn(N, 5, K, device=device)
    batches = [torch.randn(N, count, K, device=device) for count in (64, 256)]
    for peer in FLOWS:
        loop = [peer(K, recipe.steps, recipe.hidden, mixing=False).to(device) for _ in range(N)]
        yield Pair(
            f"{N} flows back, 5 codes a note",
            without_gradient(frozen.inverse, codes),
            peer.library,
            without_gradient(lambda z, loop=loop: [flow.back(own) for flow, own in zip(loop, z, strict=True)], codes),
        )
        for x in batches:
            yield _stack_pair(stack, x, peer.library, learning(loop, list(x)))
    compiled = flow_of("note_flows", size, device).fuse()
    for x in [torch.randn(N, recipe.batch, K, device=device), *batches]:
        yield _stack_pair(stack, x, "ours, compiled", fast_products()(learning([compiled], [x])))


def _stack_pair(stack: RealNVP, x: Tensor, library: str, theirs: Callable[[], object]) -> Pair:
    work = f"{x.shape[0]} flows and gradients, {x.shape[1]} frames a note"
    return Pair(work, learning([stack], [x]), library, theirs)


def _glow_pairs(size: Size, device: torch.device) -> Iterator[Pair]:
    recipe, K = size.profile.conditional_flow, size.bins
    flow = flow_of("conditional_flow", size, device)
    frozen = flow_of("conditional_flow", size, device).freeze()
    codes, x = torch.randn(300, K, device=device), torch.randn(256, K, device=device)
    for peer in FLOWS:
        other = peer(K, recipe.steps, recipe.hidden, mixing=True).to(device)
        fixed = ", mixing not learnt" if peer is FreiaFlow else ""
        with torch.no_grad():
            other.density(x)  # ActNorm's state
        yield Pair(
            f"Glow back, {len(codes)} codes",
            without_gradient(frozen.inverse, codes),
            peer.library + fixed,
            without_gradient(other.back, codes),
        )
        yield _glow_pair(flow, x, peer.library + fixed, learning([other], [x]))


def _glow_pair(flow: ConditionalGlow, x: Tensor, library: str, theirs: Callable[[], object]) -> Pair:
    return Pair(f"Glow and gradients, {len(x)} frames", learning([flow], [x]), library, theirs)


def product_pairs(size: Size, device: torch.device) -> Iterator[Pair]:
    """Trainings whose products are done by the library that we choose, against the one that torch chooses on a CPU."""
    if device.type != "cpu":
        return
    library, (stack, glow) = "ours, usual products", (flow_of(kind, size, device) for kind in KINDS)
    x = torch.randn(size.sources, size.profile.note_flows.batch, size.bins)
    yield _stack_pair(stack, x, library, learning([stack], [x]))
    x = torch.randn(size.profile.conditional_flow.batch, size.bins)
    yield _glow_pair(glow, x, library, learning([glow], [x]))


def precision_pairs(size: Size, device: torch.device) -> Iterator[Pair]:
    """Iterations with rounded factors against those in single precision, where rounding pays."""
    for method in MAKERS if pays(device) else ():
        rounded, single = (searches(method, size, device, mixed)() for mixed in (True, False))
        exact = tensor_cores(used=False)(single.iterate)
        for _ in range(WARM_UP + 1):  # a GPU records the next ones
            rounded.iterate(), exact()
        yield Pair(f"{NAMES[method]} iteration, {size.name}", rounded.iterate, "ours, single precision", exact)


def without_gradient(function: Callable[[Tensor], object], argument: Tensor) -> Callable[[], object]:
    return torch.no_grad()(lambda: function(argument))


def learning(flows: list[nn.Module], batches: list[Tensor]) -> Callable[[], None]:
    """Forwards with the log-determinant, and gradients of the likelihood for all weights."""

    def work() -> None:
        for flow, x in zip(flows, batches, strict=True):
            z, log_det = flow.density(x) if hasattr(flow, "density") else flow(x)
            loss = -(standard_normal_log_density(z) + log_det).mean(dim=-1).sum()
            loss.backward()
            flow.zero_grad()

    return work


def compare(pair: Pair, device: torch.device) -> dict:
    """A row: medians, and the median and the spread of the ratios of neighbours in time."""
    with_ours = fast_products()(pair.ours)
    with_ours(), pair.theirs()
    times = [(machine.seconds(with_ours, device), machine.seconds(pair.theirs, device)) for _ in range(REPEATS)]
    ours, theirs = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    return _row(pair.work, ours, pair.library, theirs, [theirs / ours for ours, theirs in times])


def _row(work: str, ours_ms: float, library: str, peer_ms: float, ratios: list[float], reached: bool = True) -> dict:
    return {
        "work": work,
        "ours_ms": ours_ms,
        "peer": library,
        "peer_ms": peer_ms,
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "reached": reached,
    }


def nmf_rows(size: Size, device: torch.device) -> Iterator[dict]:
    """Time until the distance to X is what ours ends with; a peer that never gets there gives a lower bound."""
    samples, X = _notes_and_mixture(size)
    sources = torch.arange(len(samples)) % size.sources
    dictionary = SampleDictionary(samples, sources, size.sources, device, resident=device.type == "cuda")
    X = X.to(device)
    ours = decompose(X, dictionary, size.profile.nmf)
    target = float(ours.distance[-1])
    peers = {"torchnmf": _torchnmf, "scikit-learn (mu)": _sklearn("mu"), "scikit-learn (cd)": _sklearn("cd")}
    for library, peer in peers.items():
        again = decompose(X, dictionary, size.profile.nmf).seconds
        seconds, reached = peer(samples, X, target, PATIENCE * again, device)
        yield _row(
            f"NMF to the same cost, {size.name}", 1000 * again, library, 1000 * seconds, [seconds / again], reached
        )


def _notes_and_mixture(size: Size) -> tuple[Tensor, Tensor]:
    """Spectra with a few peaks, and mixtures of two of them in every frame."""
    draws = torch.Generator().manual_seed(0)
    samples = torch.rand(size.samples, size.bins, generator=draws) ** 8
    pairs = torch.randint(size.samples, (2, size.frames), generator=draws)
    return samples, (0.5 * samples[pairs[0]] + 0.5 * samples[pairs[1]]).T.contiguous()


def _torchnmf(samples: Tensor, X: Tensor, target: float, limit: float, device: torch.device) -> tuple[float, bool]:
    start = torch.full((X.shape[1], len(samples)), 1 / len(samples), device=device)
    model = NMF(W=samples.T.contiguous().to(device), H=start, trainable_W=False).to(device)
    spent = 0.0
    while spent < limit:
        spent += machine.seconds(lambda: model.fit(X.T, beta=2, tol=0, max_iter=10), device)
        with torch.no_grad():
            if float(torch.linalg.vector_norm(X.T - model())) <= target:
                return spent, True
    return spent, False


def _sklearn(solver: str) -> Callable[..., tuple[float, bool]]:
    def run(samples: Tensor, X: Tensor, target: float, limit: float, device: torch.device) -> tuple[float, bool]:
        """It cannot go on from where it was, so it is run anew with twice as many iterations each time."""
        entries, spectra = samples.numpy(), np.ascontiguousarray(X.T.cpu().numpy())
        iterations, seconds = 1, 0.0
        while seconds < limit / 2:
            work = partial(_factorise, spectra, entries, solver, iterations)
            seconds, found = machine.timed(work, device)
            if np.linalg.norm(spectra - found @ entries) <= target:
                return seconds, True
            iterations *= 2
        return seconds, False

    return run


def _factorise(spectra: np.ndarray, entries: np.ndarray, solver: str, iterations: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        return non_negative_factorization(
            spectra, H=entries, n_components=len(entries), update_H=False, solver=solver, tol=0, max_iter=iterations
        )[0]

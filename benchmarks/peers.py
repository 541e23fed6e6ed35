"""Other libraries on the same work: flows of the same shapes, and NMF with the same fixed dictionary.

Our own code in another way is a peer too: fused by torch.compile, with the products that torch chooses, and in single
precision.  All libraries get the products that torch chooses: whoever uses them does, too.

Every library gets its own coupling with one network for scale and shift, the activation of ours where the
choice is given, and random weights; speed does not depend on them.
"""

import itertools
import warnings
from functools import partial

import normflows
import numpy as np
import torch
from FrEIA import framework
from FrEIA import modules as freia
from sklearn.decomposition import non_negative_factorization
from torch import nn
from torchnmf.nmf import NMF
from zuko import lazy, transforms

from ddslib.flows.flow import standard_normal_log_density
from ddslib.machine import limits
from ddslib.machine.device import policy
from ddslib.machine.recording import WARM_UP
from ddslib.machine.rounding import SINGLE, fast_products
from ddslib.methods.registry import registered, settings
from ddslib.search.search import decompose
from ddslib.search.stored import SampleDictionary

from .methods import REPEATS, TRAININGS, flow_of, iterations

PATIENCE = 20  # times our own time, after which a peer that is not there yet is no longer waited for
LEAK = 0.01


class FreiaFlow(framework.SequenceINN):
    """FrEIA's one-sided coupling between its random permutations, or its ActNorms and fixed dense mixings."""

    def __init__(self, shape):
        super().__init__(shape.dimensions)
        network = partial(dense, shape)
        for seed in range(shape.steps):
            if shape.mixing:
                self.append(freia.ActNorm)
                self.append(freia.FixedLinearTransform, M=_rotation(shape.dimensions))
            else:
                self.append(freia.PermuteRandom, seed=seed)
            self.append(freia.AffineCouplingOneSided, subnet_constructor=network, clamp=1.0, clamp_activation="TANH")

    def back(self, z):
        return self(z, rev=True)[0]


class NormflowsFlow(normflows.NormalizingFlow):
    """normflows' coupling (whose scale has no bound) between its permutations, or its ActNorms and LU mixings."""

    # The library's own direction is that from codes to data.
    forward, back = normflows.NormalizingFlow.inverse_and_log_det, normflows.NormalizingFlow.forward

    def __init__(self, shape):
        own, K, layers = normflows.flows, shape.dimensions, []
        for _ in range(shape.steps):
            network = normflows.nets.MLP([K // 2, *shape.hidden, K], leaky=LEAK)
            mixing = [own.InvertibleAffine(K), own.ActNorm(K)] if shape.mixing else [own.Permute(K, mode="shuffle")]
            layers += [own.AffineCouplingBlock(network), *mixing]
        super().__init__(None, layers)


class ZukoFlow(nn.Module):
    """zuko's coupling between its permutations, or between element-wise affine maps and LU mixings."""

    def __init__(self, shape):
        super().__init__()
        K, fixed, layers = shape.dimensions, lazy.UnconditionalTransform, []
        for _ in range(shape.steps):
            if shape.mixing:
                factors = torch.linalg.lu_factor(_rotation(K)).LU
                layers += [fixed(_affine, *torch.zeros(2, K)), fixed(transforms.LULinearTransform, factors)]
            else:
                layers.append(fixed(partial(transforms.PermutationTransform, torch.randperm(K))))
            layers.append(_ZukoCoupling(shape))
        self.chain = lazy.LazyComposedTransform(*layers)

    def forward(self, x):
        return self.chain().call_and_ladj(x)

    def back(self, z):
        return self.chain().inv(z)


class _ZukoCoupling(lazy.LazyTransform):
    def __init__(self, shape):
        super().__init__()
        half = shape.dimensions // 2
        self.network = dense(shape, half, shape.dimensions)
        self.mask = torch.arange(shape.dimensions) < half

    def forward(self, c=None):
        return transforms.CouplingTransform(self._moved, self.mask)

    def _moved(self, x1):
        s, t = self.network(x1).chunk(2, dim=-1)
        return _affine(s.tanh(), t)


FLOWS = {"FrEIA": FreiaFlow, "normflows": NormflowsFlow, "zuko": ZukoFlow}


def _affine(scale, shift):
    return transforms.DependentTransform(transforms.AffineTransform(shift, scale.exp()), 1)


def _rotation(dimensions):
    return torch.linalg.qr(torch.randn(dimensions, dimensions)).Q


def dense(shape, inputs, outputs):
    """A coupling's network."""
    activation, layers = nn.LeakyReLU if shape.mixing else nn.SELU, []
    for pair in itertools.pairwise((inputs, *shape.hidden, outputs)):
        layers += [nn.Linear(*pair), activation()]
    return nn.Sequential(*layers[:-1])


def rows(smoke, laptop, paper, device):
    """A row for each pair of ours and a peer, one after the other."""
    return itertools.chain(
        flow_rows(laptop, device),
        product_rows(laptop, device),
        precision_rows(laptop, device),
        precision_rows(paper, device),
        nmf_rows(smoke, device),
    )


def flow_rows(size, device):
    """Flows in a loop, or compiled, against our stack, and then Glow; with the laptop's shapes."""
    stacked, single = TRAININGS
    yield from _library_rows(stacked, 5, (64, 256), size, device)
    stack, compiled = flow_of(stacked, size, device), flow_of(stacked, size, device).fuse()
    for count in (size.profile.note_flows.batch, 64, 256):
        x = torch.randn(size.sources, count, size.bins, device=device)
        yield _training_row(stack, x, "ours, compiled", fast_products()(learning([compiled], [x])))
    yield from _library_rows(single, 300, (256,), size, device)


def _library_rows(kind, codes, batches, size, device):
    """Back, and with gradients, by us and by each library in a loop over the stack."""
    shape, flow = size.shape(kind), flow_of(kind, size, device)
    frozen = flow_of(kind, size, device).freeze()
    z, *data = (torch.randn(shape.stack, count, size.bins, device=device) for count in (codes, *batches))
    ours = torch.no_grad()(partial(frozen.inverse, z.squeeze(0)))
    for library, peer in FLOWS.items():
        loop = [peer(shape).to(device) for _ in range(shape.stack)]
        if shape.mixing and peer is FreiaFlow:
            library += ", mixing not learnt"
        _each(peer.forward, loop, data[-1])  # ActNorm's state
        yield compare(_work("back", z, "codes"), ours, library, partial(_each, peer.back, loop, z), device)
        for x in data:
            yield _training_row(flow, x, library, learning(loop, x))


@torch.no_grad()
def _each(method, flows, batches):
    return [method(flow, own) for flow, own in zip(flows, batches, strict=True)]


def _work(what, batch, vectors):
    """In words; a batch (flows, vectors, K) of one flow is a Glow's."""
    flows, count, _ = batch.shape
    return f"{flows} flows {what}, {count} {vectors} a note" if flows > 1 else f"Glow {what}, {count} {vectors}"


def _training_row(flow, x, library, theirs):
    return compare(_work("and gradients", x, "frames"), learning([flow], [x.squeeze(0)]), library, theirs, x.device)


def product_rows(size, device):
    """Trainings whose products are done by the library that we choose, against the one that torch chooses on a CPU."""
    for kind in () if policy(device).records else TRAININGS:
        flow = flow_of(kind, size, device)
        x = torch.randn(size.shape(kind).stack, getattr(size.profile, kind).batch, size.bins)
        yield _training_row(flow, x, "ours, usual products", learning([flow], [x.squeeze(0)]))


def precision_rows(size, device):
    """Iterations with rounded factors against those in single precision, where rounding pays."""
    rounding = policy(device).rounding("mixed")
    for method in registered().values() if rounding != SINGLE else ():
        rounded, single = (iterations(method, size, device, factors)() for factors in (rounding, SINGLE))
        exact = SINGLE.applied()(single)
        for _ in range(WARM_UP + 1):  # a GPU records the next ones
            rounded(), exact()
        yield compare(f"{method.label} iteration, {size.name}", rounded, "ours, single precision", exact, device)


def learning(flows, batches):
    """What goes forwards with the log-determinant, and finds gradients of the likelihood for all weights."""

    def work():
        for flow, x in zip(flows, batches, strict=True):
            z, log_det = flow(x)
            loss = -(standard_normal_log_density(z) + log_det).mean(dim=-1).sum()
            loss.backward()
            flow.zero_grad()

    return work


def compare(work, ours, library, theirs, device):
    """A row of both callables in turn: medians, and the median and the spread of the ratios of neighbours in time."""
    pair = fast_products()(ours), theirs
    for measured in pair:
        measured()
    return _row(work, library, [[limits.seconds(each, device) for each in pair] for _ in range(REPEATS)])


def _row(work, library, times, reached=True):
    """Of seconds (measurements, 2) of ours and theirs."""
    ours, theirs = 1000 * np.median(times, axis=0)
    ratios = [theirs / ours for ours, theirs in times]
    return {
        "work": work,
        "ours_ms": ours,
        "peer": library,
        "peer_ms": theirs,
        "ratio": np.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "reached": reached,
    }


def nmf_rows(size, device):
    """Time until the distance to X is what ours ends with; a peer that never gets there gives a lower bound."""
    samples, X = _notes_and_mixture(size)
    X, sources = X.to(device), torch.arange(size.samples) % size.sources
    dictionary = SampleDictionary(samples, sources, size.sources, device, resident=policy(device).records)
    method = next(method for method in registered().values() if not method.flow)
    search = partial(decompose, X, dictionary, settings(size.profile, method.name))
    target = float(search().distance[-1])
    for library, tries, patience in (
        ("torchnmf", _torchnmf(samples, X), PATIENCE),
        ("scikit-learn (mu)", _sklearn(samples, X, "mu"), PATIENCE / 2),  # the next try takes twice as long
        ("scikit-learn (cd)", _sklearn(samples, X, "cd"), PATIENCE / 2),
    ):
        ours = search().seconds
        seconds, distance = next(found for found in tries if found[1] <= target or found[0] >= patience * ours)
        yield _row(f"NMF to the same cost, {size.name}", library, [(ours, seconds)], distance <= target)


def _notes_and_mixture(size):
    """Spectra with a few peaks, and mixtures of two of them in every frame."""
    draws = torch.Generator().manual_seed(0)
    samples = torch.rand(size.samples, size.bins, generator=draws) ** 8
    pairs = torch.randint(size.samples, (2, size.frames), generator=draws)
    return samples, samples[pairs].mean(dim=0).T.contiguous()


def _torchnmf(samples, X):
    """Seconds so far, and the distance, after ever more iterations."""
    start = torch.full((X.shape[1], len(samples)), 1 / len(samples))
    model = NMF(W=samples.T, H=start, trainable_W=False).to(X.device)
    spent = 0.0
    while True:
        spent += limits.seconds(lambda: model.fit(X.T, beta=2, tol=0, max_iter=10), X.device)
        with torch.no_grad():
            yield spent, float(torch.linalg.vector_norm(X.T - model()))


def _sklearn(samples, X, solver):
    """The same; it cannot go on from where it was, so it is run anew with twice as many iterations each time."""
    entries, spectra = samples.numpy(), np.ascontiguousarray(X.T.cpu().numpy())
    fixed = partial(non_negative_factorization, spectra, H=entries, n_components=len(entries), update_H=False)
    for doublings in itertools.count():
        work = partial(fixed, solver=solver, tol=0, max_iter=2**doublings)
        with warnings.catch_warnings(action="ignore"):  # that it has not converged
            seconds, (found, *_) = limits.timed(work, X.device)
        yield seconds, float(np.linalg.norm(spectra - found @ entries))

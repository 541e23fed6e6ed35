import math
import time
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from compiling import needs_compiler
from memory import needs_linux, printed_by, sparse_file
from safetensors.torch import save_file
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal
from torch.nn import functional

from ddslib.config import ConditionalFlowTraining, FlowTraining, InputError
from ddslib.flows import checkpoint, classifier, fused, training
from ddslib.flows.realnvp import RealNVP
from ddslib.flows.units import UnitFrames
from ddslib.spectra.frames import Frames

NOTES = FlowTraining(
    steps=2, hidden=(8,), batch=32, learning_rate=0.01, epochs=8, patience=50, gradient_clipping=5.0, noise=0.0,
    compiled=False,
)  # fmt: skip
CONDITIONAL = ConditionalFlowTraining(
    steps=2, hidden=(8,), batch=32, learning_rate=0.003, epochs=6, patience=50, gradient_clipping=None, noise=0.0,
    compiled=False, semantic_weight=100.0, nuisance_weight=0.05, classifier_steps=1, classifier_learning_rate=0.003,
    nuisance_labels="own",
)  # fmt: skip
SIZES = (60, 90, 120)  # frames of each note
K = 6
each_recipe = pytest.mark.parametrize("recipe", [NOTES, CONDITIONAL], ids=["notes", "conditional"])


def frames_of(values, sources):
    names = tuple(f"recording {number}" for number in range(len(sources)))
    return Frames(values.float().numpy().copy(), sources.numpy(), np.arange(len(sources)), names, "content")


@pytest.fixture
def sources():
    return torch.arange(3).repeat_interleave(torch.tensor(SIZES))


@pytest.fixture
def frames(sources, generator):
    centres = 2 * torch.randn(3, K, generator=generator)
    deviations = torch.linspace(0.2, 1, K)
    return frames_of(centres[sources] + deviations * torch.randn(len(sources), K, generator=generator), sources)


@pytest.fixture
def validation(sources):
    return (torch.arange(len(sources)) % 3 == 0).numpy()


@pytest.fixture
def uneven(frames, validation, generator):
    """The first note is soon done: the narrower its flow becomes, the less likely are the frames that validate it."""
    first = frames.sources == 0
    values = frames.values.copy()
    values[first & ~validation] *= 0.05
    values[first & validation] = torch.randn(int((first & validation).sum()), K, generator=generator)
    return replace(frames, values=values)


def batch(flow, frames, chosen):
    return torch.from_numpy(frames.values[chosen]), torch.from_numpy(frames.sources[chosen])


def validation_losses(flow, frames, validation):
    """By unit, each frame by itself: no batches, no padding."""
    with torch.no_grad():
        if not isinstance(flow, RealNVP):
            return -flow.log_prob(*batch(flow, frames, validation)).mean()[None]
        own = (batch(flow, frames, validation & (frames.sources == n))[0] for n in range(flow.n_sources))
        return torch.stack([-flow.select([n]).log_prob(x[None]).mean() for n, x in enumerate(own)])


@needs_compiler
@each_recipe
def test_a_compiled_training_leads_to_the_same_flow(recipe, uneven, validation, caplog):
    recipe = replace(recipe, steps=1, epochs=4, patience=2)
    plain, compiled = (
        training.train(replace(recipe, compiled=on), uneven, validation, 3, 0).flow.state_dict() for on in (False, True)
    )
    assert fused.__name__ not in {record.name for record in caplog.records}  # nothing went on without
    for name, value in plain.items():
        assert torch.allclose(compiled[name], value, atol=2e-5), name


def assert_equal(ours, expected):
    """To the last bit: weights, ActNorm's state and history."""
    for name, value in expected.flow.state_dict().items():
        assert torch.equal(ours.flow.state_dict()[name], value), name
    assert ours.history.keys() == expected.history.keys()
    for name, value in expected.history.items():
        assert torch.equal(ours.history[name].nan_to_num(-1), value.nan_to_num(-1)), name


def mixture(means, deviations):
    parts = Independent(Normal(torch.tensor(means), torch.tensor(deviations)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(means))), parts)


def test_flows_of_notes_come_close_to_the_densities_that_their_frames_are_drawn_from():
    torch.manual_seed(0)
    densities = [
        mixture([[-1.5, 0.0], [1.0, 1.5]], [[0.4, 0.8], [0.7, 0.3]]),
        mixture([[0.0, -2.0], [1.5, 1.0]], [[0.6, 0.4], [0.4, 0.8]]),
    ]
    values = torch.cat([density.sample((2500,)) for density in densities])
    frames = frames_of(values, torch.arange(2).repeat_interleave(2500))
    recipe = replace(NOTES, steps=6, hidden=(32, 32), batch=128, learning_rate=0.003, epochs=40)
    trained = training.train(recipe, frames, np.arange(5000) % 5 == 0, 2, seed=0)

    fresh = torch.stack([density.sample((20_000,)) for density in densities])
    with torch.no_grad():
        likelihoods = trained.flow.log_prob(fresh)
    for density, x, log_prob, selected in zip(densities, fresh, likelihoods, trained.best_losses, strict=True):
        entropy = -density.log_prob(x).mean()
        best_normal = MultivariateNormal(x.mean(dim=0), x.T.cov())
        assert -best_normal.log_prob(x).mean() > entropy + 2 * 0.2
        assert -log_prob.mean() < entropy + 2 * 0.05
        assert selected.item() == pytest.approx(entropy.item(), abs=2 * 0.1)


def test_the_conditional_flow_learns_to_tell_sources_from_frames_it_has_not_seen(frames, validation):
    trained = training.train(replace(CONDITIONAL, epochs=40), frames, validation, 3, seed=0)
    x, sources = batch(trained.flow, frames, validation)
    with torch.no_grad():
        semantic, nuisance = trained.flow.split(trained.flow(x)[0])
    assert (semantic.argmax(dim=1) == sources).double().mean() > 0.95
    assert (semantic - functional.one_hot(sources, 3)).square().mean() < 0.05
    assert 0.7 < nuisance.std() < 1.3


@each_recipe
def test_a_training_is_reproducible_under_its_seed(recipe, frames, validation):
    recipe = replace(recipe, noise=0.1, epochs=3)
    first, again, other = (training.train(recipe, frames, validation, 3, seed) for seed in (0, 0, 1))
    assert_equal(first, again)
    assert not torch.equal(first.best_losses, other.best_losses)


def interrupted(monkeypatch, after, *arguments, **options):
    """Train, and be stopped like by Ctrl-C when so many epochs are done."""
    epoch = training.Trainer.epoch

    def stopped(run):
        if run.epochs == after:
            raise KeyboardInterrupt
        epoch(run)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "epoch", stopped)
        with pytest.raises(KeyboardInterrupt):
            training.train(*arguments, **options)


def resumed(monkeypatch, *arguments, **options):
    """The result of a training that goes on, and how many epochs it went on for."""
    epoch, count = training.Trainer.epoch, 0

    def counted(run):
        nonlocal count
        count += 1
        epoch(run)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "epoch", counted)
        return training.train(*arguments, **options), count


@pytest.mark.parametrize(
    "recipe",
    [NOTES, CONDITIONAL, replace(CONDITIONAL, nuisance_labels="shuffled"), replace(CONDITIONAL, nuisance_weight=0.0)],
    ids=["notes", "conditional", "shuffled labels", "without classifier"],
)
def test_an_interrupted_training_goes_on_to_the_same_weights(
    recipe, frames, validation, tmp_path, monkeypatch, every_epoch_kept
):
    recipe, path = replace(recipe, noise=0.1, epochs=6), tmp_path / "checkpoint.safetensors"
    whole = training.train(recipe, frames, validation, 3, seed=0)
    interrupted(monkeypatch, 2, recipe, frames, validation, 3, seed=0, checkpoint=path)
    interrupted(monkeypatch, 4, recipe, frames, validation, 3, seed=0, checkpoint=path)
    last, epochs = resumed(monkeypatch, recipe, frames, validation, 3, seed=0, checkpoint=path)
    assert epochs == 2
    assert_equal(last, whole)
    assert last.seconds > 0


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_an_interrupted_training_goes_on_although_some_notes_are_past_their_best_or_done(
    after, uneven, validation, tmp_path, monkeypatch, every_epoch_kept
):
    recipe, path = replace(NOTES, noise=0.1, patience=2), tmp_path / "checkpoint.safetensors"
    whole = training.train(recipe, uneven, validation, 3, seed=0)
    assert whole.history["validation"][:, 0].nan_to_num(torch.inf).argmin() < 2
    assert torch.equal(whole.history["validation"][4].isnan(), torch.tensor([True, False, False]))
    interrupted(monkeypatch, after, recipe, uneven, validation, 3, seed=0, checkpoint=path)
    last, epochs = resumed(monkeypatch, recipe, uneven, validation, 3, seed=0, checkpoint=path)
    assert epochs == 8 - after
    assert_equal(last, whole)


def test_a_checkpoint_is_written_only_when_it_is_time_and_stays_for_the_caller(
    frames, validation, tmp_path, monkeypatch
):
    recipe, path = replace(NOTES, epochs=2), tmp_path / "checkpoint.safetensors"
    training.train(recipe, frames, validation, 3, seed=0, checkpoint=path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    training.train(recipe, frames, validation, 3, seed=0, checkpoint=path)
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoints_that_take_long_are_rare(frames, validation, tmp_path, monkeypatch):
    written = []

    def slowly(tensors, path):
        time.sleep(0.2)
        written.append(save_file(tensors, path))

    monkeypatch.setattr(checkpoint, "SECONDS", 0)
    monkeypatch.setattr(checkpoint, "save_file", slowly)
    training.train(NOTES, frames, validation, 3, seed=0, checkpoint=tmp_path / "checkpoint.safetensors")
    assert len(written) == 1  # the next one would be due after four seconds


def test_a_finished_training_resumed_from_its_checkpoint_has_nothing_left_to_do(
    frames, validation, tmp_path, monkeypatch, every_epoch_kept
):
    path = tmp_path / "checkpoint.safetensors"
    whole = training.train(NOTES, frames, validation, 3, seed=0, checkpoint=path)
    again, epochs = resumed(monkeypatch, NOTES, frames, validation, 3, seed=0, checkpoint=path)
    assert epochs == 0
    assert_equal(again, whole)


@each_recipe
def test_the_weights_selected_are_those_of_the_best_validation_epoch(recipe, frames, validation):
    values, units = frames.values.copy(), 3 if recipe is NOTES else 1
    for n in range(3):  # training frames vary so little that what fits them does not fit the others for long
        own = (frames.sources == n) & ~validation
        values[own] = values[own].mean(axis=0) + 0.1 * (values[own] - values[own].mean(axis=0))
    narrow = replace(frames, values=values)
    trained = training.train(replace(recipe, learning_rate=0.02, epochs=16), narrow, validation, 3, seed=0)
    curves = trained.history["validation"]
    assert curves.shape == trained.history["training"].shape == (16, units)
    assert curves.argmin(dim=0).max() < 15
    assert torch.equal(trained.best_losses, curves.min(dim=0).values)
    assert torch.allclose(validation_losses(trained.flow, narrow, validation), trained.best_losses, rtol=1e-4)


def test_a_note_without_a_better_epoch_for_as_long_as_patience_lasts_is_done(uneven, validation):
    trained = training.train(replace(NOTES, patience=3), uneven, validation, 3, seed=0)
    for curve, losses in zip(trained.history["validation"].T, trained.history["training"].T, strict=True):
        epochs = int((~curve.isnan()).sum())
        assert torch.equal(curve.isnan(), torch.arange(8) >= epochs)
        assert torch.equal(losses.isnan(), curve.isnan())
        best = int(curve.nan_to_num(torch.inf).argmin())
        assert epochs == min(best + 1 + 3, 8)
    assert trained.history["validation"].isnan().any(dim=0).tolist() == [True, False, False]


def test_what_comes_after_a_note_is_done_does_not_change_its_weights(uneven, validation):
    recipe = replace(NOTES, patience=2)
    whole = training.train(recipe, uneven, validation, 3, seed=0)
    epochs = int((~whole.history["validation"][:, 0].isnan()).sum())
    assert epochs < 8
    short = training.train(replace(recipe, epochs=epochs), uneven, validation, 3, seed=0)
    for before, after in zip(short.flow.select([0]).parameters(), whole.flow.select([0]).parameters(), strict=True):
        assert torch.equal(before, after)
    assert not torch.equal(short.flow.layers[1].a[1], whole.flow.layers[1].a[1])


def start(recipe, frames, validation, seed=0):
    return training.Trainer(recipe, frames, validation, 3, seed)


def test_notes_that_are_done_leave_the_stack(uneven, validation):
    run = start(replace(NOTES, patience=2), uneven, validation)
    while len(run.active) == 3:
        run.epoch()
    assert run.active.tolist() == [1, 2]
    assert run.steps.flow.n_sources == 2
    assert all(len(parameter) == 2 for parameter in run.steps.flow.parameters())
    assert run.result().flow.n_sources == 3


def test_training_ends_when_every_unit_is_done(uneven, validation):
    only_first = uneven.sources == 0
    frames = replace(uneven, values=uneven.values[only_first], sources=uneven.sources[only_first])
    trained = training.train(replace(NOTES, patience=2), frames, validation[only_first], 1, seed=0)
    assert len(trained.history["validation"]) == int(trained.history["validation"].argmin()) + 3 < 8
    assert torch.allclose(validation_losses(trained.flow, frames, validation[only_first]), trained.best_losses)


def test_those_that_stay_go_on_as_if_nobody_had_left(frames, validation):
    everyone, fewer = (start(NOTES, frames, validation) for _ in range(2))
    for run in (everyone, fewer):
        run.epoch()
    fewer.steps.keep(torch.tensor([0, 2]))
    for rows in everyone.batches():
        assert torch.allclose(everyone.step(rows)[0][[0, 2]], fewer.step(rows[[0, 2]])[0], atol=1e-5)
    for whole, kept in zip(everyone.steps.flow.parameters(), fewer.steps.flow.parameters(), strict=True):
        assert torch.allclose(whole[[0, 2]], kept, atol=1e-5)


def test_in_an_epoch_every_note_goes_round_its_own_training_frames_and_the_longest_once(frames, validation):
    data = UnitFrames(RealNVP(3, K, 1, (8,)), frames, validation)
    active = torch.tensor([0, 2])
    rows = data.batches(active, 32, torch.Generator().manual_seed(0))
    assert rows.shape == (3, 2, 32)  # the longest has 80 frames to train on
    for unit, own in zip(active, rows.transpose(0, 1), strict=True):
        expected = np.flatnonzero((frames.sources == int(unit)) & ~validation)
        assert set(own.flatten().tolist()) == set(expected.tolist())
        counts = own.flatten().unique(return_counts=True)[1]
        assert counts.max() - counts.min() <= 1
    other = data.batches(active, 32, torch.Generator().manual_seed(1))
    assert not torch.equal(rows, other)


def test_validation_of_notes_of_different_length_ignores_the_padding(frames, validation):
    run = start(NOTES, frames, validation)
    assert torch.allclose(run.validate(), validation_losses(run.steps.flow, frames, validation), rtol=1e-5)


def test_validation_in_batches_is_that_in_one(frames, validation, policy_with):
    policy_with(training, validation_batch=7)
    run = start(NOTES, frames, validation)
    assert torch.allclose(run.validate(), validation_losses(run.steps.flow, frames, validation), rtol=1e-5)
    conditional = start(CONDITIONAL, frames, validation)
    conditional.steps.flow(batch(conditional.steps.flow, frames, ~validation)[0])
    expected = validation_losses(conditional.steps.flow, frames, validation)
    assert torch.allclose(conditional.validate(), expected, rtol=1e-5)


def gradient_norms(flow):
    return torch.cat([flow.by_unit(parameter.grad) for parameter in flow.parameters()], dim=1).norm(dim=1)


def steps(recipe, frames, validation, count=1):
    run = start(recipe, frames, validation)
    for rows in run.batches()[:count]:
        run.step(rows)
    return run.steps.flow


@each_recipe
def test_a_gradient_is_scaled_down_to_the_largest_norm_and_not_up(recipe, frames, validation):
    free = gradient_norms(steps(replace(recipe, gradient_clipping=None), frames, validation))
    limit = float(free.mean())
    clipped = gradient_norms(steps(replace(recipe, gradient_clipping=limit), frames, validation))
    assert torch.allclose(clipped, free.clamp(max=limit), rtol=1e-5)
    low = gradient_norms(steps(replace(recipe, gradient_clipping=1e-3), frames, validation))
    assert torch.allclose(low, torch.full_like(low, 1e-3), rtol=1e-5)


def test_a_note_with_a_huge_gradient_does_not_change_the_steps_of_others(frames, validation):
    loud = replace(frames, values=frames.values * np.where(frames.sources == 1, 1000, 1)[:, None].astype(np.float32))
    recipe = replace(NOTES, gradient_clipping=2.0)
    usual, disturbed = (steps(recipe, f, validation, count=3) for f in (frames, loud))
    for ours, theirs in zip(usual.parameters(), disturbed.parameters(), strict=True):
        assert torch.equal(ours[[0, 2]], theirs[[0, 2]])
    assert not torch.equal(usual.layers[1].a[1], disturbed.layers[1].a[1])


def test_noise_is_added_to_training_frames_and_never_to_those_stored_or_validated(frames, validation):
    before = frames.values.copy()
    noisy, clean = (start(replace(NOTES, noise=noise), frames, validation) for noise in (0.5, 0.0))
    assert torch.equal(noisy.validate(), clean.validate())
    rows = noisy.batches()[0]
    assert not torch.allclose(noisy.step(rows)[0], clean.step(rows)[0], rtol=1e-3)
    assert np.array_equal(frames.values, before)


def test_the_flow_steps_towards_what_the_nuisance_classifier_cannot_tell(frames, validation):
    recipe = replace(CONDITIONAL, nuisance_weight=1000.0, classifier_steps=100, classifier_learning_rate=0.01)
    run = start(recipe, frames, validation)
    x, sources = batch(run.steps.flow, frames, ~validation)
    run.steps.flow(x)
    before = deepcopy(run.steps.flow)
    _, learnt = run.step(torch.from_numpy(np.flatnonzero(~validation))[None])
    entropies = [
        run.steps.classifier.cross_entropy(flow.split(flow(x)[0])[1], sources) for flow in (before, run.steps.flow)
    ]
    assert learnt < 0.8 * math.log(3)
    assert entropies[1] > entropies[0]


def test_the_classifier_drops_activations_while_it_learns_and_stays_as_it_is_while_the_flow_does(frames, validation):
    run = start(CONDITIONAL, frames, validation)
    x, sources = batch(run.steps.flow, frames, ~validation)
    nuisance = run.steps.flow.split(run.steps.flow(x)[0])[1].detach()
    run.steps.classifier.train()
    assert run.steps.classifier.cross_entropy(nuisance, sources) != run.steps.classifier.cross_entropy(
        nuisance, sources
    )
    run.steps.classifier.learn(nuisance, sources)
    assert run.steps.classifier.cross_entropy(nuisance, sources) == run.steps.classifier.cross_entropy(
        nuisance, sources
    )
    assert not any(parameter.requires_grad for parameter in run.steps.classifier.parameters())


def test_dropout_silences_a_tenth_and_keeps_the_mean(generator):
    dropped = classifier._dropout(torch.ones(100_000), generator)
    assert float((dropped == 0).double().mean()) == pytest.approx(0.1, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.005)


def penalised(run, *batch):
    return run.steps.classifier.losses(run.steps.flow, *(part[None] for part in batch))


def test_the_nuisance_weight_counts_against_what_the_classifier_can_tell(frames, validation):
    losses = {}
    for weight in (1e-6, 1.0):
        run = start(replace(CONDITIONAL, nuisance_weight=weight), frames, validation)
        x, sources = batch(run.steps.flow, frames, ~validation)
        losses[weight] = penalised(run, x, sources, sources)[0]
        entropy = run.steps.classifier.cross_entropy(run.steps.flow.split(run.steps.flow(x)[0])[1], sources)
    assert torch.allclose(losses[1.0], losses[1e-6] - entropy, atol=1e-4)


def test_the_classifier_learns_from_own_labels_and_not_from_shuffled_ones(frames, validation):
    recipe = replace(CONDITIONAL, learning_rate=1e-7, classifier_learning_rate=0.01, epochs=25)
    own, shuffled = (
        training.train(replace(recipe, nuisance_labels=labels), frames, validation, 3, seed=0).history["classifier"]
        for labels in ("own", "shuffled")
    )
    # Frames are not equally many, so a guess without a look at them costs less than log 3.
    guess = -sum(size / sum(SIZES) * math.log(size / sum(SIZES)) for size in SIZES)
    assert own.shape == shuffled.shape == (25, 1)
    assert own[-1] < 0.7 * guess
    assert shuffled[-1] > 0.9 * guess


@pytest.mark.parametrize("labels", ["own", "shuffled"])
def test_shuffled_labels_are_those_of_the_batch_in_another_order(labels, frames, validation, monkeypatch):
    run = start(replace(CONDITIONAL, nuisance_labels=labels, classifier_steps=2), frames, validation)
    learn, seen = run.steps.classifier.learn, []
    monkeypatch.setattr(run.steps.classifier, "learn", lambda z, given: (seen.append(given), learn(z, given))[1])
    x, sources = batch(run.steps.flow, frames, ~validation)
    penalised(run, x, sources, run.steps.classifier.labels(sources[None])[0])
    assert len(seen) == 2
    assert torch.equal(seen[0].sort().values, sources.sort().values)
    assert torch.equal(seen[0], sources) == (labels == "own")


def test_without_a_nuisance_weight_there_is_no_classifier(frames, validation):
    trained = training.train(replace(CONDITIONAL, nuisance_weight=0.0, epochs=2), frames, validation, 3, seed=0)
    assert trained.history.keys() == {"training", "validation"}
    assert start(replace(CONDITIONAL, nuisance_weight=0.0), frames, validation).steps.classifier is None


@each_recipe
@pytest.mark.parametrize("purpose", ["train on", "validate with"])
def test_frames_are_needed_on_both_sides(purpose, recipe, frames, validation):
    everything_of = frames.sources == 1 if recipe is NOTES else np.ones_like(validation)
    mask = np.where(everything_of, purpose == "train on", validation)
    unit = 1 if recipe is NOTES else 0
    with pytest.raises(InputError, match=f"source {unit} has no frames to {purpose}"):
        training.train(recipe, frames, mask, 3, seed=0)


def test_every_note_needs_frames(frames, validation):
    with pytest.raises(InputError, match="source 3 has no frames to train on"):
        training.train(NOTES, frames, validation, 4, seed=0)


@each_recipe
@pytest.mark.parametrize("row", [0, 1], ids=["validation", "training"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_frames_that_are_not_finite_are_an_error(value, row, recipe, frames, validation):
    frames.values[row, 2] = value
    with pytest.raises(InputError, match="not finite"):
        training.train(recipe, frames, validation, 3, seed=0)


@each_recipe
def test_a_training_that_diverges_is_an_error(recipe, frames, validation):
    recipe = replace(recipe, learning_rate=1e8, gradient_clipping=None)
    with pytest.raises(InputError, match="not finite"):
        training.train(recipe, frames, validation, 3, seed=0)


@each_recipe
def test_a_training_whose_units_all_stopped_early_resumes_from_its_last_checkpoint(
    recipe, frames, validation, tmp_path, every_epoch_kept
):
    recipe = replace(recipe, patience=1, epochs=60, learning_rate=0.1)
    path = tmp_path / "training.checkpoint"
    whole = training.train(recipe, frames, validation, 3, 0, checkpoint=path)
    assert len(whole.history["validation"]) < 60
    assert_equal(training.train(recipe, frames, validation, 3, 0, checkpoint=path), whole)


STREAMED = """
    import sys
    import numpy as np
    from ddslib.config import FlowTraining
    from ddslib.flows import training
    from ddslib.spectra.frames import Frames
    from memory import mebibytes

    def epoch(M):
        values = np.memmap(sys.argv[1], np.float32, mode="c", shape=(M, 256))
        frames = Frames(values, np.arange(M) % 4, np.arange(M), (), "")
        training.train(RECIPE, frames, np.arange(M) % 16 < 4, 4, 0)

    RECIPE = FlowTraining(
        steps=1, hidden=(4,), batch=64, learning_rate=0.001, epochs=1, patience=1, gradient_clipping=None, noise=0.01,
        compiled=False,
    )
    epoch(1600)
    before, peak = mebibytes("RssAnon"), 0.0
    step = training.Trainer.step

    def watched(self, rows):
        global peak
        outcome = step(self, rows)
        peak = max(peak, mebibytes("RssAnon"))
        return outcome

    training.Trainer.step = watched
    epoch(400_000)
    print(peak - before, 400_000 * 256 * 4 / 2**20)
"""


@needs_linux
def test_frames_are_read_batch_by_batch_so_that_a_store_may_be_larger_than_memory(tmp_path):
    used, store = printed_by(STREAMED, sparse_file(tmp_path / "values.f32", 400_000 * 256 * 4))
    assert used < store / 6

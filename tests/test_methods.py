"""Every registered method passes the checks, and they fail for one that is wrong."""

from dataclasses import replace

import pytest
from method_checks import CHECKS, check_gradients, check_shapes, check_silence

from ddslib.methods.registry import find, registered


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", registered().values(), ids=lambda method: method.name)
def test_every_method_passes(method, check):
    check(method)


@pytest.mark.parametrize(
    ("check", "operator", "wrong"),
    [
        (check_shapes, "correlate", lambda right: 2 * right),
        (check_gradients, "pull_back", lambda right: tuple(0.9 * gradient for gradient in right)),
        (check_silence, "attribute", lambda right: right - 1),
    ],
)
def test_a_method_that_is_wrong_does_not_pass(check, operator, wrong):
    right = find("dds3")

    def dictionary(materials, settings):
        made = right.dictionary(materials, settings)
        rightly = getattr(made, operator)
        setattr(made, operator, lambda *arguments: wrong(rightly(*arguments)))
        return made

    check(right)
    with pytest.raises(AssertionError):
        check(replace(right, dictionary=dictionary))

"""The ACME server's variables and metrics are the reference product's: every name of its, with its default."""

from __future__ import annotations

import json
from pathlib import Path

from certctl import settings
from certctl.settings.acme import ACME
from certctl.telemetry import metrics
from certctl.telemetry.metrics import Kind

CONTRACT = json.loads((Path(__file__).resolve().parents[2] / "contract" / "acme.json").read_text())
# why a default is another: nobody is sent to a public resolver unless they chose it
OTHER = {"CERTCTL_ACME_SERVER_DNS01_RESOLVER"}


def test_every_variable_of_the_reference_is_here_with_its_default():
    ours = {each.name: (field, each) for section in ACME.values() for field, each in section.items()}
    assert CONTRACT["environment"].keys() <= ours.keys()
    chosen = settings.load({"CERTCTL_ACME_SERVER_ENABLED": "false"})
    for name, default in CONTRACT["environment"].items():
        text = "" if default == "(empty)" else default
        said = settings.load({name: text}) if text and name not in OTHER else chosen
        # to say its default is to say nothing
        assert said == chosen, name


def test_every_metric_of_the_reference_is_here():
    ours = {each.name: each for each in metrics.METRICS}
    assert len(CONTRACT["metrics"]) > 30
    for name in CONTRACT["metrics"]:
        assert (ours[name].kind, ours[name].labels) == (Kind.COUNTER, ()), name

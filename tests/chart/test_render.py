"""What the chart renders is what it says: guards, names, secrets, contexts, alerts; nothing unknown, nothing unused."""

from __future__ import annotations

import base64
import copy
import json
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from certctl.api.app import openapi_document
from chart.chart import ALL_ON, CHART, ROOT, Manifest, containers, of, pods, refused, render, run
from peers.collector import Collector

# every way the chart can run something, one render each
EVERYTHING: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "all on": ALL_ON,
    "daemon set": ("agent.kind=DaemonSet",),
    "stateful set": ("agent.kind=StatefulSet", "agent.replicas=3"),
    "s3": ("backup.enabled=true", "backup.sink=s3", "backup.s3.bucket=dumps"),
    "managed database": (
        "postgresql.enabled=false",
        "externalDatabase.url=postgres://u:p@db.example:5432/certctl",
        "migrations.viaHook=true",
    ),
    "traced": (
        "tracing.enabled=true",
        "tracing.endpoint=http://collector.observability:4318",
        "tracing.headersSecret.name=collector-key",
        "migrations.viaHook=true",
    ),
    "hardened": (
        "server.replicas=3",
        "podDisruptionBudget.enabled=true",
        "networkPolicy.enabled=true",
        "ingress.enabled=true",
        "ingress.className=nginx",
        "server.tls.certManager.enabled=true",
        "server.tls.certManager.issuerRef.name=internal",
        "monitoring.enabled=true",
        "monitoring.serviceMonitor.enabled=true",
    ),
}


@pytest.fixture(scope="module")
def renders() -> dict[str, list[Manifest]]:
    return {name: render(*sets) for name, sets in EVERYTHING.items()}


@pytest.fixture(scope="module")
def all_on(renders) -> list[Manifest]:
    return renders["all on"]


def test_every_way_is_valid_for_kubernetes(renders, tmp_path):
    for name, manifests in renders.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all(manifests))
        checked = subprocess.run(
            [sys.executable, ROOT / "scripts" / "validate-manifests", path],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert checked.returncode == 0, (name, checked.stderr)


def test_the_check_of_manifests_can_fail(renders, tmp_path):
    broken = copy.deepcopy(renders["all on"])
    of(broken, "Deployment", "certctl-server")["spec"]["replica"] = 2
    of(broken, "PrometheusRule")["spec"]["groups"][0]["rules"][0]["exprs"] = "up"
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump_all(broken))
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / "validate-manifests", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 1
    assert "replica" in checked.stderr
    assert "exprs" in checked.stderr


def test_the_three_opt_ins_bring_one_object_each(all_on):
    counted = Counter(each["kind"] for each in all_on)
    assert (counted["CronJob"], counted["PrometheusRule"], counted["Job"]) == (1, 1, 1)


def test_nothing_of_them_is_there_by_default(renders):
    counted = Counter(each["kind"] for each in renders["defaults"])
    assert not counted.keys() & {"CronJob", "PrometheusRule", "Job", "ServiceMonitor", "NetworkPolicy", "Ingress"}


def test_the_database_is_restarted_by_its_operator_alone(renders):
    text = (CHART / "templates" / "postgres-statefulset.yaml").read_text().splitlines()
    for word in ("OnDelete", "OrderedReady"):
        assert sum(word in line for line in text) == 1
    spec = of(renders["defaults"], "StatefulSet", "certctl-postgres")["spec"]
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    assert spec["podManagementPolicy"] == "OrderedReady"


def test_every_container_is_confined(renders):
    seen = 0
    for name, manifests in renders.items():
        for owner, template in pods(manifests):
            spec = template["spec"]
            assert spec["automountServiceAccountToken"] is False, (name, owner)
            assert spec["enableServiceLinks"] is False, "names of services would become CERTCTL_ variables"
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in containers(template):
                context = container["securityContext"]
                assert context["readOnlyRootFilesystem"] is True, (name, owner, container["name"])
                assert context["allowPrivilegeEscalation"] is False
                assert context["capabilities"]["drop"] == ["ALL"]
                if container["name"] == "own-state":  # a node's folder is root's: it is given to the agent, no more
                    assert name == "daemon set"
                    assert context["capabilities"]["add"] == ["CHOWN"]
                else:
                    assert context["runAsNonRoot"] is True
                    assert context["runAsUser"] > 0
                    assert "add" not in context["capabilities"]
                assert container["resources"]["requests"], (name, owner, container["name"])
                seen += 1
    assert seen > 15


def test_probes_ask_what_is_served(renders):
    served = {path for path, methods in openapi_document()["paths"].items() if "get" in methods}
    (server,) = of(renders["defaults"], "Deployment", "certctl-server")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in server["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = server[probe]["httpGet"]
        assert asked["path"] in served
        assert asked["port"] in ports
        assert asked["scheme"] == "HTTPS"
    assert server["readinessProbe"]["httpGet"]["path"] == "/ready"


def _variables_of(container: Manifest, manifests: list[Manifest]) -> set[str]:
    names = {each["name"] for each in container.get("env", [])}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            names |= set(of(manifests, "ConfigMap", source["configMapRef"]["name"])["data"])
    return {name for name in names if name.startswith("CERTCTL_")}


def test_every_variable_that_is_set_is_read(renders):
    source = ROOT / "src" / "certctl"
    settings = [source / "settings.py", *(source / "settings").glob("*.py")]
    texts = [path.read_text() for path in settings if path.is_file() and path.name != "elsewhere.py"]
    read_by = {
        "server": set(re.findall(r'"(CERTCTL_[A-Z_]+)"', "".join(texts))),
        "agent": set(re.findall(r'"(CERTCTL_[A-Z_]+)"', (source / "agent" / "settings.py").read_text())),
    }
    seen = 0
    for manifests in renders.values():
        for _, template in pods(manifests):
            for container in containers(template):
                read = (
                    read_by["agent" if container["command"][0] == "certctl-agent" else "server"]
                    if "command" in container
                    else set()
                )
                variables = _variables_of(container, manifests)
                assert variables <= read, variables - read
                seen += len(variables)
    assert seen > 100


def test_every_secret_and_map_that_is_named_is_there(renders):
    theirs = {"certctl-backup-aws-creds", "collector-key"}  # the operator's own, as values name them
    for name, manifests in renders.items():
        there = {(each["kind"], each["metadata"]["name"]): each.get("data", {}) for each in manifests}
        if name == "hardened":  # cert-manager makes this one
            there["Secret", "certctl-tls"] = dict.fromkeys(("tls.crt", "tls.key", "ca.crt"), "")
        for owner, template in pods(manifests):
            for container in containers(template):
                for variable in container.get("env", []):
                    if ref := variable.get("valueFrom", {}).get("secretKeyRef"):
                        assert ref["name"] in theirs or ref["key"] in there["Secret", ref["name"]], (
                            name,
                            owner,
                            variable,
                        )
                mounted = {each["name"] for each in container.get("volumeMounts", [])}
                declared = {each["name"] for each in template["spec"].get("volumes", [])}
                claimed = {"data", "state"} if owner.startswith("StatefulSet") else set()
                assert mounted <= declared | claimed, (name, owner)
            for volume in template["spec"].get("volumes", []):
                if secret := volume.get("secret"):
                    assert {item["key"] for item in secret["items"]} <= set(there["Secret", secret["secretName"]])
                if config := volume.get("configMap"):
                    assert ("ConfigMap", config["name"]) in there
                if claim := volume.get("persistentVolumeClaim"):
                    assert ("PersistentVolumeClaim", claim["claimName"]) in there
            account = template["spec"].get("serviceAccountName")
            assert account is None or ("ServiceAccount", account) in there


def test_no_agent_sees_the_servers_key(renders):
    for manifests in renders.values():
        for owner, template in pods(manifests):
            if "agent" in owner:
                keys = [
                    item["key"]
                    for each in template["spec"]["volumes"]
                    if "secret" in each
                    for item in each["secret"]["items"]
                ]
                assert keys == ["ca.crt"]


def test_names_of_a_certificate_cover_how_agents_call(renders):
    manifests = renders["defaults"]
    url = of(manifests, "ConfigMap", "certctl-agent")["data"]["CERTCTL_SERVER_URL"]
    pair = base64.b64decode(of(manifests, "Secret", "certctl-tls")["data"]["tls.crt"])
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-checkhost", re.fullmatch(r"https://([^:]+):8443", url)[1]],
        input=pair,
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert b"does match" in shown.stdout


def test_a_made_certificate_chains_to_what_agents_trust(renders, tmp_path):
    data = of(renders["defaults"], "Secret", "certctl-tls")["data"]
    for key in ("ca.crt", "tls.crt"):
        (tmp_path / key).write_bytes(base64.b64decode(data[key]))
    subprocess.run(
        ["openssl", "verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "tls.crt"],
        check=True,
        capture_output=True,
        timeout=30,
    )


def test_the_hook_comes_with_all_it_needs(all_on):
    hooks = [each for each in all_on if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    assert Counter(each["kind"] for each in hooks) == Counter(Job=1, Secret=1, ConfigMap=1, ServiceAccount=1)
    weights = {each["kind"]: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]) for each in hooks}
    assert all(weights[kind] < weights["Job"] for kind in ("Secret", "ConfigMap", "ServiceAccount"))
    assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in hooks} == {"pre-install,pre-upgrade"}
    ours = {each["metadata"]["name"] for each in hooks}
    template = of(all_on, "Job")["spec"]["template"]["spec"]
    (container,) = template["containers"]
    named = {template["serviceAccountName"], *(source["configMapRef"]["name"] for source in container["envFrom"])}
    named |= {each["valueFrom"]["secretKeyRef"]["name"] for each in container["env"] if "valueFrom" in each}
    assert named == ours, "a hook's Job may name only what is there before the release"


def test_the_hook_has_the_very_secrets_of_the_release(all_on):
    hook = of(all_on, "Secret", "certctl-migrate")["data"]
    assert hook["config-encryption-key"] == of(all_on, "Secret", "certctl-server")["data"]["config-encryption-key"]
    assert hook["password"] == of(all_on, "Secret", "certctl-postgres")["data"]["password"]


@pytest.mark.parametrize(
    ("sets", "arguments", "command"),
    [
        (("migrations.viaHook=true",), (), ["certctl-server", "--migrate-only", "--first-install"]),
        (("migrations.viaHook=true",), ("--is-upgrade",), ["certctl-server", "--migrate-only"]),
        (
            ("migrations.viaHook=true", "postgresql.enabled=false", "externalDatabase.existingSecret=mine"),
            (),
            ["certctl-server", "--migrate-only"],
        ),
    ],
)
def test_only_a_first_install_of_the_bundled_database_may_find_none(sets, arguments, command):
    manifests = render(*sets, arguments=arguments)
    (container,) = of(manifests, "Job")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == command
    before = of(manifests, "Deployment", "certctl-server")["spec"]["template"]["spec"].get("initContainers", [])
    bundled = "postgresql.enabled=false" not in sets
    assert [each["command"] for each in before] == ([["certctl-server", "--migrate-only"]] if bundled else [])
    assert of(manifests, "ConfigMap", "certctl-server")["data"]["CERTCTL_MIGRATIONS_VIA_HOOK"] == "true"


def test_by_default_a_server_migrates_at_boot(renders):
    assert of(renders["defaults"], "ConfigMap", "certctl-server")["data"]["CERTCTL_MIGRATIONS_VIA_HOOK"] == "false"
    assert "initContainers" not in of(renders["defaults"], "Deployment", "certctl-server")["spec"]["template"]["spec"]


def rules_of(manifests: list[Manifest]) -> dict[str, Manifest]:
    (group,) = of(manifests, "PrometheusRule")["spec"]["groups"]
    assert group["interval"] == "60s"
    return {rule["alert"]: rule for rule in group["rules"]}


def test_the_four_alerts(all_on):
    rules = rules_of(all_on)
    facts = {
        name: (rule["for"], rule["labels"]["severity"], rule["labels"]["component"]) for name, rule in rules.items()
    }
    wanted = {
        "CertctlCertificateExpiringSoon": ("5m", "warning", "certctl"),
        "CertctlAgentOffline": ("1h", "warning", "certctl-agent"),
        "CertctlJobFailureRateHigh": ("15m", "warning", "certctl"),
        "CertctlIssuanceFailures": ("15m", "warning", "certctl"),
    }
    assert wanted.items() <= facts.items()
    assert rules["CertctlJobFailureRateHigh"]["expr"].endswith("> 0.05")
    assert all("clamp" not in rule["expr"] for rule in rules.values())


def test_an_explicit_zero_is_a_zero():
    sets = [
        f"monitoring.prometheusRules.thresholds.{name}=0" for name in ("jobFailureRate", "expiringCertificateCount")
    ]
    sets += ["monitoring.prometheusRules.thresholds.offlineAgentFor=0s"]
    rules = rules_of(render("monitoring.prometheusRules.enabled=true", *sets))
    assert rules["CertctlJobFailureRateHigh"]["expr"].endswith("> 0")
    assert rules["CertctlCertificateExpiringSoon"]["expr"].endswith("> 0")
    assert rules["CertctlAgentOffline"]["for"] == "0s"


def test_every_alert_names_a_runbook_that_is_there(all_on):
    for name, rule in rules_of(all_on).items():
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
        assert anchor in {heading.lower() for heading in headings}, name


def test_what_alerts_point_at_is_served(all_on):
    served = set(openapi_document()["paths"])
    for rule in rules_of(all_on).values():
        for path in re.findall(r"/api/v1/[a-z-]+", rule["annotations"]["description"]):
            assert path in served


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (("server.replica=2",), "replica"),
        (("nonsense=1",), "nonsense"),
        (("server.image.tagg=x",), "tagg"),
        (("monitoring.prometheusRules.thresholds.offline=1",), "offline"),
        (("agent.kind=Cron",), "agent.kind"),
        (("server.replicas=0",), "server.replicas"),
        (("server.logging.level=loud",), "level"),
        (("postgresql.auth.password=a/b@c",), "password"),
        (("postgresql.postgresqlConfig.port=1",), "port"),
        (("server.tls.existingSecret=a", "server.tls.certManager.enabled=true"), "not both"),
        (("server.tls.certManager.enabled=true",), "issuerRef"),
        (("postgresql.enabled=false",), "externalDatabase.url"),
        (("externalDatabase.url=postgres://db/x",), "postgresql.enabled=false"),
        (("externalDatabase.readUrl=postgres://db/x",), "externalDatabase.url"),
        (("postgresql.enabled=false", "externalDatabase.existingSecret=x", "backup.enabled=true"), "provider"),
        (("backup.enabled=true", "backup.sink=s3"), "bucket"),
        (("tracing.enabled=true",), "tracing.endpoint"),
        (("tracing.enabled=true", "tracing.endpoint=collector:4318"), "endpoint"),
        (("tracing.sampleRatio=2",), "sampleRatio"),
        (("backup.enabled=true", "backup.sink=tape"), "sink"),
        (("agent.replicas=2",), "StatefulSet"),
        (("ingress.enabled=true", "ingress.certManager.enabled=true"), "issuerRef"),
    ],
)
def test_what_cannot_be_right_is_refused(sets, says):
    assert says in refused(*sets)


def test_variables_of_ones_own_win(renders):
    data = of(
        render("server.env.CERTCTL_STEP_LEASE=1m", "server.env.CERTCTL_LOG_LEVEL=debug"), "ConfigMap", "certctl-server"
    )["data"]
    assert data["CERTCTL_STEP_LEASE"] == "1m"
    assert data["CERTCTL_LOG_LEVEL"] == "debug"
    assert data.keys() - {"CERTCTL_STEP_LEASE"} == of(renders["defaults"], "ConfigMap", "certctl-server")["data"].keys()


def test_traces_go_where_values_say_with_headers_from_a_secret(renders):
    """Servers and agents alike, neither the hook nor the init container: they end before a span would be sent."""
    manifests = renders["traced"]
    wanted = {
        "CERTCTL_OTEL_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability:4318",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "1",
    }
    for name in ("certctl-server", "certctl-agent"):
        assert wanted.items() <= of(manifests, "ConfigMap", name)["data"].items()
    holders = [
        (owner, container["name"])
        for owner, template in pods(manifests)
        for container in containers(template)
        if any(each["name"] == "OTEL_EXPORTER_OTLP_HEADERS" for each in container.get("env", []))
    ]
    assert holders == [("Deployment certctl-agent", "agent"), ("Deployment certctl-server", "server")]
    assert "OTEL" not in str(renders["all on"])
    mine = ("server.env.OTEL_TRACES_SAMPLER=always_on", *EVERYTHING["traced"])
    assert of(render(*mine), "ConfigMap", "certctl-server")["data"]["OTEL_TRACES_SAMPLER"] == "always_on"


def test_what_the_chart_says_of_traces_is_what_the_exporter_takes(monkeypatch):
    """The very variables, taken up by the SDK that the images install, and a span that arrives with the headers."""
    from certctl.telemetry.otel import OpenTelemetry

    with Collector() as collector:
        # in a file of values: what `--set` hands over with a point in it is a text
        values = {"tracing": {"endpoint": collector.url, "sampleRatio": 0.25}}
        given = of(render("tracing.enabled=true", values=values), "ConfigMap", "certctl-server")["data"]
        for name, value in given.items():
            if name.startswith("OTEL_"):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of-the-test,x-team=pki")
        made = OpenTelemetry("certctl-server", "0")
        try:
            described = made._provider.sampler.get_description()
            assert described.startswith("ParentBased{root:TraceIdRatioBased{0.25}"), described
            # what its caller traces is traced, whatever the ratio
            span, _ = made.open("issue", f"00-{'1' * 32}-{'2' * 16}-01", "internal", {})
            made.close(span)
        finally:
            made.shutdown()
        assert [each.name for each in collector.spans()] == ["issue"]
        assert collector.headers.items() >= {"authorization": "Bearer of-the-test", "x-team": "pki"}.items()


def test_all_three_affinities_are_honoured():
    values = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
        "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []},
    }
    spec = of(render(values=values), "Deployment", "certctl-server")["spec"]["template"]["spec"]
    assert spec["affinity"] == values


def test_agents_rights_are_those_that_were_given():
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    manifests = render(values={"rbac": {"agentRules": rules}})
    assert of(manifests, "Role")["rules"] == rules
    template = of(manifests, "Deployment", "certctl-agent")["spec"]["template"]["spec"]
    assert template["automountServiceAccountToken"] is True
    assert of(manifests, "RoleBinding")["subjects"][0]["name"] == template["serviceAccountName"]


def test_each_process_has_a_page_of_its_own_that_prometheus_alone_reaches():
    sets = ("monitoring.enabled=true", "monitoring.serviceMonitor.enabled=true", "networkPolicy.enabled=true")
    ports = [("runtime-0", 9100), ("runtime-1", 9101)]
    manifests = render("monitoring.runtimeMetrics.port=9100", "server.processes=2", *sets)
    pod = of(manifests, "Deployment", "certctl-server")["spec"]["template"]["spec"]["containers"][0]
    assert [(each["name"], each["containerPort"]) for each in pod["ports"] if "runtime" in each["name"]] == ports
    config = of(manifests, "ConfigMap", "certctl-server")["data"]
    assert (config["CERTCTL_RUNTIME_METRICS_HOST"], config["CERTCTL_RUNTIME_METRICS_PORT"]) == ("0.0.0.0", "9100")
    scraped = of(manifests, "ServiceMonitor")["spec"]["endpoints"]
    assert [(each["targetPort"], each["path"]) for each in scraped[1:]] == [(name, "/metrics") for name, _ in ports]
    service = of(manifests, "Service", "certctl-server")["spec"]["ports"]
    assert {each["name"] for each in service} == {"https", "pki"}, "without a key, so in no Service"
    rules = of(manifests, "NetworkPolicy", "certctl-server")["spec"]["ingress"]
    (runtime,) = [rule for rule in rules if {"port": "runtime-0"} in rule["ports"]]
    assert runtime["ports"] == [{"port": name} for name, _ in ports]
    assert [peer["namespaceSelector"]["matchLabels"] for peer in runtime["from"]] == [
        {"kubernetes.io/metadata.name": "monitoring"}
    ]
    named = {"networkPolicy": {"peers": {"prometheus": []}}}
    nobody = render("monitoring.runtimeMetrics.port=9100", *sets, values=named)
    for rule in of(nobody, "NetworkPolicy", "certctl-server")["spec"]["ingress"]:
        assert {"port": "runtime-0"} not in rule["ports"], "no peer named is nobody, not everybody"
    assert "runtime" not in str(render(*sets))


# -- no value that nothing uses -----------------------------------------------------------------------------------------

# what has to be on for a value to matter, by the longest prefix
TRACED = ("tracing.enabled=true", "tracing.endpoint=http://c:4318")
CONTEXT: dict[str, tuple[str, ...]] = {
    "tracing.": (*TRACED, "tracing.headersSecret.name=h"),
    "tracing.enabled": ("tracing.endpoint=http://c:4318",),
    "tracing.headersSecret.name": TRACED,
    "backup.": ("backup.enabled=true",),
    "backup.enabled": (),
    "ingress.enabled": (),
    "migrations.viaHook": (),
    "networkPolicy.enabled": (),
    "backup.s3.": ("backup.enabled=true", "backup.sink=s3", "backup.s3.bucket=b"),
    "backup.sink": ("backup.enabled=true", "backup.s3.bucket=b"),
    "ingress.": ("ingress.enabled=true",),
    "ingress.certManager": ("ingress.enabled=true", "ingress.certManager.issuerRef.name=i"),
    "ingress.certManager.issuerRef": (
        "ingress.enabled=true",
        "ingress.certManager.enabled=true",
        "ingress.certManager.issuerRef.name=i",
    ),
    "networkPolicy.": ("networkPolicy.enabled=true",),
    "networkPolicy.peers.database": (
        "networkPolicy.enabled=true",
        "postgresql.enabled=false",
        "externalDatabase.existingSecret=d",
    ),
    "podDisruptionBudget.": ("podDisruptionBudget.enabled=true", "server.replicas=2"),
    "podDisruptionBudget.enabled": ("server.replicas=2",),
    "monitoring.enabled": ("monitoring.serviceMonitor.enabled=true",),
    "monitoring.serviceMonitor.": ("monitoring.enabled=true", "monitoring.serviceMonitor.enabled=true"),
    "monitoring.serviceMonitor.enabled": ("monitoring.enabled=true",),
    "monitoring.prometheusRules.": ("monitoring.prometheusRules.enabled=true",),
    "monitoring.prometheusRules.enabled": (),
    "monitoring.runtimeMetrics.": (),
    "migrations.": ("migrations.viaHook=true",),
    "externalDatabase.": ("postgresql.enabled=false", "externalDatabase.existingSecret=d"),
    "externalDatabase.url": ("postgresql.enabled=false", "externalDatabase.url=postgres://other.example/x"),
    "externalDatabase.readUrl": ("postgresql.enabled=false", "externalDatabase.url=postgres://other.example/x"),
    "server.tls.certManager.": ("server.tls.certManager.enabled=true", "server.tls.certManager.issuerRef.name=i"),
    "server.tls.certManager.enabled": ("server.tls.certManager.issuerRef.name=i",),
    "server.service.sessionAffinityTimeoutSeconds": ("server.service.sessionAffinity=ClientIP",),
    "agent.hostPath": ("agent.kind=DaemonSet",),
    "agent.replicas": ("agent.kind=StatefulSet",),
    "rbac.create": ("rbac.agentRules[0].verbs[0]=get",),
}
# values whose change cannot be guessed from their type
CHANGED: dict[str, Any] = {
    "imagePullSecrets": [{"name": "mine"}],
    "externalDatabase.url": "postgres://u:p@db.example/x",
    "externalDatabase.readUrl": "postgres://u:p@standby.example/x",
    "server.pki.baseUrl": "http://pki.example",
    "tracing.endpoint": "https://collector.example",
    "tracing.sampleRatio": 0.25,
    "agent.serverUrl": "https://certctl.example",
    "ingress.hosts": [{"host": "other.example", "paths": [{"path": "/", "pathType": "Exact"}]}],
    "podDisruptionBudget.minAvailable": "50%",
    "server.tls.dnsNames": ["other.example"],
    "postgresql.postgresqlConfig": {"max_connections": 300},
    "backup.schedule": "1 1 * * *",
}
# values that another has to go with
TOGETHER: dict[str, Manifest] = {"postgresql.enabled": {"externalDatabase": {"existingSecret": "d"}}}
# made anew by each render without a cluster
MADE = re.compile(
    r"^( +)(config-encryption-key|bootstrap-token|agent-bootstrap-token|password|(?:tls|ca)\.(?:crt|key)|checksum/secrets"
    r"|certctl/made-at): .*$",
    re.MULTILINE,
)


def leaves(values: Manifest, schema: Manifest, above: str = "") -> dict[str, Any]:
    """Every value by its path; a map whose content Kubernetes defines is one value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path, inner = f"{above}.{key}".strip("."), schema["properties"][key]
        if "properties" in inner:
            found |= leaves(value, inner, path)
        else:
            found[path] = value
    return found


def at(schema: Manifest, path: str) -> Manifest:
    for key in path.split("."):
        schema = schema.get("properties", {}).get(key, schema.get("additionalProperties") or {})
        schema = schema if isinstance(schema, dict) else {}
    return schema


def changed(path: str, value: Any, schema: Manifest) -> Any:
    if path in CHANGED:
        return CHANGED[path]
    if "enum" in schema:
        return next(word for word in schema["enum"] if word != value)
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value + 0.5
        case str() if value.startswith("/"):
            return f"{value}/x"
        case str() if re.fullmatch(r"[0-9]+[smhd]", value):
            return "77m"
        case list():
            return [*value, {"flipped": "flipped"}]
        case dict():
            return {"flipped": "flipped"}
    return f"{value}flipped"


def text_of(*sets: str, values: Manifest | None = None) -> str:
    """A render without what is made anew each time."""
    ended = run(*[word for each in sets for word in ("--set", each)], values=values)
    assert ended.returncode == 0, (sets, values, ended.stderr)
    return MADE.sub(r"\1\2: made", ended.stdout)


def put(path: str, value: Any) -> Manifest:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def test_every_value_changes_the_render():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    bases: dict[tuple[str, ...], str] = {}
    every = leaves(values, schema)

    def unused(path: str) -> str:
        prefix = max((each for each in CONTEXT if path.startswith(each)), key=len, default="")
        context = CONTEXT.get(prefix, ())
        if context not in bases:
            bases[context] = text_of(*context)
        overlay = put(path, changed(path, every[path], at(schema, path))) | TOGETHER.get(path, {})
        with_it = text_of(*[each for each in context if not each.startswith(f"{path}=")], values=overlay)
        return "" if with_it != bases[context] else path

    paths = [path for path in every if path != "postgresql.auth.password"]
    with ThreadPoolExecutor(2) as pool:
        assert [path for path in pool.map(unused, paths) if path] == []
    password = of(render("postgresql.auth.password=mine"), "Secret", "certctl-postgres")["data"]["password"]
    assert base64.b64decode(password) == b"mine"


def test_schema_and_values_know_the_same_keys():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(value: Any, known: Manifest, path: str) -> None:
        if (
            known.get("additionalProperties") is False
            and isinstance(value, dict)
            and "minimum" not in json.dumps(list(known)[:1])
        ):
            declared = set(known["properties"]) - ({"global"} if not path else set())
            if path not in {"postgresql.livenessProbe", "postgresql.readinessProbe"}:
                assert declared == set(value), path
            for key, inner in value.items():
                compare(inner, known["properties"][key], f"{path}.{key}".strip("."))

    assert schema["additionalProperties"] is False
    compare(values, schema, "")


def test_every_value_is_explained_where_it_is_not_plain():
    text = (CHART / "values.yaml").read_text()
    assert "TBD" not in text
    assert "TODO" not in text

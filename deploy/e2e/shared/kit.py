"""Holds the operator's files to each other and to the binaries.

    kit.py names FILE...    every query asks for a metric that these scrapes have
    kit.py files            manifests, image, runbook
"""

import json
import pathlib
import re
import sys

import yaml
from dockerfile_parse import DockerfileParser

ROOT = pathlib.Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
FAILURES = []

# Of the language, not names: functions, operators, labels that rules go by.
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
OURS = re.compile(r"^(millrace_|process_|instance:millrace|millrace:)")


def holds(condition, words):
    if not condition:
        FAILURES.append(words)


def load(path):
    return list(yaml.safe_load_all((DEPLOY / path).read_text()))


def rules(path):
    return [rule for group in load(path)[0]["groups"] for rule in group["rules"]]


def asked(query):
    """Names of ours in a query, outside of label matchers and strings."""
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|(by|without|on|ignoring) ?\([^)]*\)", " ", query)
    return {name for name in NAME.findall(bare) if OURS.match(name)}


def names(scrapes):
    told = set()
    for path in scrapes:
        for line in pathlib.Path(path).read_text().splitlines():
            if line.startswith("# TYPE "):
                told.add(line.split()[2])
    # What is counted by label appears with its first count: it is known by the name
    # that the code registers them under.
    for source in ROOT.glob("*/src/**/*.rs"):
        text = source.read_text()
        for name in re.findall(r'int_(?:counter|gauge)_vec\(\s*(?:&?registry,\s*)?"(millrace_[a-z_]+)"', text):
            told.add(name)
    recorded = {rule["record"] for rule in rules("monitoring/recording.yml")}
    board = json.loads((DEPLOY / "monitoring/dashboard.json").read_text())
    queries = [(rule.get("record") or rule["alert"], rule["expr"]) for rule in rules("monitoring/recording.yml") + rules("monitoring/alerts.yml")]
    queries += [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    count = 0
    for where, query in queries:
        for name in asked(query):
            count += 1
            holds(name in told or name in recorded, f"{where}: nothing is called {name}")
    labels(scrapes)
    holds(count >= 55, f"only {count} names were looked up")
    print(f"{len(queries)} queries, {count} names, {len(told)} metrics")


LABEL = re.compile(r'(\w+)="([^"]*)"')


def labels(scrapes):
    """What the tests of the rules are fed has values of labels that the binaries tell."""
    told = {}
    for path in scrapes:
        for name, inner in re.findall(r"^(\w+)\{(.*)\} ", pathlib.Path(path).read_text(), re.M):
            for label, value in LABEL.findall(inner):
                told.setdefault((name, label), set()).add(value)
    for case in load("monitoring/tests.yml")[0]["tests"]:
        for series in case["input_series"]:
            name, _, inner = series["series"].partition("{")
            for label, value in LABEL.findall(inner):
                known = told.get((name, label))
                if label in ("status", "reason", "outcome") and known is not None:
                    holds(value in known, f"{case['name']}: {name} never has {label}={value}: {sorted(known)}")


def files():
    alerts = [rule["alert"] for rule in rules("monitoring/alerts.yml")]
    headings = re.findall(r"^## (\w+)$", (DEPLOY / "runbook.md").read_text(), re.M)
    holds(alerts == headings, f"runbook: headings differ from alerts: {set(alerts) ^ set(headings)}")
    tested = {test["alertname"] for case in load("monitoring/tests.yml")[0]["tests"] for test in case.get("alert_rule_test", []) if test.get("exp_alerts")}
    holds(set(alerts) == tested, f"alerts without a test that fires them: {set(alerts) - tested}")
    for rule in rules("monitoring/alerts.yml"):
        holds(rule["annotations"]["runbook"] == f"deploy/runbook.md#{rule['alert'].lower()}", f"{rule['alert']}: runbook")
    image()
    compose()
    kubernetes()
    units()
    sockets()
    print(f"{len(alerts)} alerts")


def image():
    parser = DockerfileParser(path=str(DEPLOY / "image/Dockerfile"))
    steps = parser.structure
    for step in steps:
        if step["instruction"] == "COPY" and "--from" not in step["value"]:
            for source in step["value"].split()[:-1]:
                # Built by an earlier stage, or there.
                holds((ROOT / source).exists(), f"Dockerfile: COPY {source}: there is no such file")
    last = [step for step in steps if step["instruction"] in ("USER", "HEALTHCHECK", "ENTRYPOINT")]
    kinds = {step["instruction"] for step in last}
    holds(kinds == {"USER", "HEALTHCHECK", "ENTRYPOINT"}, "Dockerfile: USER, HEALTHCHECK and ENTRYPOINT")
    holds(all("root" not in step["value"] and not step["value"].startswith("0") for step in last if step["instruction"] == "USER"), "Dockerfile: runs as root")
    holds(any("deploy/dist" in step["value"] for step in steps if step["instruction"] == "RUN"), "Dockerfile: not built by deploy/dist")
    # deploy/dist looks for the directory in what it built: where sources have paths
    # that end alike, it would find it in every binary.
    sources = {f"/{path.relative_to(ROOT)}" for path in ROOT.glob("*/src/**/*.rs")}
    for step in steps:
        if step["instruction"] == "WORKDIR":
            alike = [path for path in sources if f"{step['value']}/" in path]
            holds(not alike, f"Dockerfile: WORKDIR {step['value']} is part of every path like {alike[:1]}")
    version = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
    holds(f"rust:{version}-" in parser.content, f"Dockerfile: not the Rust {version} of Cargo.toml")


def flags(binary):
    """MILLRACE_ variables that a binary or the library knows."""
    known = set()
    for part in (binary, "common"):
        for source in (ROOT / part / "src").rglob("*.rs"):
            known |= set(re.findall(r'env = "(MILLRACE_\w+)"', source.read_text()))
    return known


def compose():
    services = load("compose/compose.yaml")[0]["services"]
    for name, service in services.items():
        binary = name.split("-")[0]
        if binary in ("origin", "edge"):
            unknown = set(service["environment"]) - flags(binary)
            holds(not unknown, f"compose: {name}: no such flag: {unknown}")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith(".") and source != "./certs":
                path = DEPLOY / "compose" / source
                holds(path.exists(), f"compose: {name}: there is no {source}")
                # An editor puts another file in its place, which a mount of the old
                # one never shows.
                holds(binary not in ("origin", "edge") or path.is_dir(), f"compose: {name}: {source} is mounted as a file")
    kinds = [name.split("-")[0] for name in services]
    holds((kinds.count("origin"), kinds.count("edge")) == (2, 3), "compose: two origins and three edges")


def settings(text):
    """What a unit says, as (key, value)."""
    lines = (line.strip() for line in text.splitlines())
    return [tuple(line.split("=", 1)) for line in lines if "=" in line and not line.startswith("#")]


def units():
    """Services find their files where those who may change them put them."""
    users = set(re.findall(r"^u (\S+)", (DEPLOY / "systemd/sysusers.conf").read_text(), re.M))
    directories = {}
    for line in (DEPLOY / "systemd/tmpfiles.conf").read_text().splitlines():
        if line.startswith("d "):
            _, path, mode, _, group = line.split()
            directories[pathlib.PurePath(path)] = (mode, group)
    for binary, file in (("origin", "millrace-origin.service"), ("edge", "millrace-edge@.service")):
        said = settings((DEPLOY / "systemd" / file).read_text())
        holds(not [value for key, value in said if key == "LoadCredential"], f"{file}: a credential is a copy that nobody reads again")
        user = dict(said).get("User")
        holds(user in users, f"{file}: sysusers.conf makes no {user}")
        variables = dict(value.split("=", 1) for key, value in said if key == "Environment")
        holds(set(variables) <= flags(binary), f"{file}: no such flag: {set(variables) - flags(binary)}")
        writable = {value.lstrip("-") for key, value in said if key == "ReadWritePaths"}
        for name, value in variables.items():
            if value.startswith("/etc/"):
                mode, group = directories.get(pathlib.PurePath(value).parent, ("", ""))
                holds(group == user and mode[-3:-2] == "7", f"{file}: {name}: {user} can't read there")
                if name == "MILLRACE_KEYS":
                    where = str(pathlib.PurePath(value).parent)
                    holds(mode[-2:-1] == "7" and where in writable, f"{file}: the API can't change {value}")


SOCKETS = {"origin": {"rtmp", "link", "ops"}, "edge": {"https", "ops", "irc", "ircs"}}


def sockets():
    """A unit for each socket that two processes of a node have in turn."""
    for binary, wanted in SOCKETS.items():
        found = set()
        for path in (DEPLOY / "systemd").glob(f"millrace-{binary}-*.socket"):
            said = dict(settings(path.read_text()))
            found.add(said["FileDescriptorName"])
            holds(said["FileDescriptorName"] in path.name, f"{path.name}: is called {said['FileDescriptorName']}")
        holds(found == wanted, f"systemd: sockets of {binary}: {found}, wanted {wanted}")


def kubernetes():
    kustomization = load("kubernetes/kustomization.yaml")[0]
    objects = [entry for path in kustomization["resources"] for entry in load(f"kubernetes/{path}")]
    for entry in objects:
        holds({"apiVersion", "kind", "metadata"} <= set(entry), f"kubernetes: {entry.get('kind')}: apiVersion, kind, metadata")
    kinds = {(entry["kind"], entry["metadata"]["name"]): entry for entry in objects}
    for generated in kustomization["configMapGenerator"]:
        variables = {literal.split("=")[0] for literal in generated["literals"]}
        unknown = variables - flags(generated["name"])
        holds(not unknown, f"kubernetes: {generated['name']}: no such flag: {unknown}")
    for kind, name in (("StatefulSet", "origin"), ("Deployment", "edge")):
        entry = kinds.get((kind, name))
        holds(entry is not None, f"kubernetes: no {kind} {name}")
        if entry is None:
            continue
        spec = entry["spec"]["template"]["spec"]
        container = spec["containers"][0]
        labels = entry["spec"]["template"]["metadata"]["labels"]
        budget = kinds.get(("PodDisruptionBudget", name))
        holds(budget and budget["spec"]["selector"]["matchLabels"].items() <= labels.items(), f"kubernetes: {name}: no disruption budget for its pods")
        holds(entry["spec"]["selector"]["matchLabels"].items() <= labels.items(), f"kubernetes: {name}: selector")
        holds("preStop" in container["lifecycle"], f"kubernetes: {name}: no preStop")
        ports = {port["name"] for port in container["ports"]}
        for probe in ("livenessProbe", "readinessProbe"):
            holds(container[probe]["httpGet"]["port"] in ports, f"kubernetes: {name}: {probe}")
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"] for volume in spec["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in entry["spec"].get("volumeClaimTemplates", [])}
        holds(mounts == volumes, f"kubernetes: {name}: mounts {mounts} of volumes {volumes}")
    for generated in kustomization["configMapGenerator"]:
        if generated["name"] == "edge":
            said = dict(literal.split("=", 1) for literal in generated["literals"])
            holds(said.get("MILLRACE_HTTPS_LISTEN") and "MILLRACE_PLAIN_HTTP_ANYWHERE" not in said, "kubernetes: edges leave TLS to a proxy, which makes all viewers one address")
            paths = [container["mountPath"] for container in kinds["Deployment", "edge"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
            for variable in ("MILLRACE_TLS_CERT", "MILLRACE_TLS_KEY"):
                holds(str(pathlib.PurePath(said.get(variable, "")).parent) in paths, f"kubernetes: {variable} is mounted nowhere")
    for (kind, name), entry in kinds.items():
        if kind == "Service":
            names = {port["name"] for it in objects if it["kind"] in ("StatefulSet", "Deployment") for port in it["spec"]["template"]["spec"]["containers"][0]["ports"]}
            for port in entry["spec"]["ports"]:
                target = port.get("targetPort", port["name"])
                holds(target in names, f"kubernetes: service {name}: no port {target}")
            pods = [it for it in objects if it["kind"] in ("StatefulSet", "Deployment")]
            labels = [it["spec"]["template"]["metadata"]["labels"] for it in pods]
            holds(any(entry["spec"]["selector"].items() <= of.items() for of in labels), f"kubernetes: service {name} selects nothing")


if sys.argv[1] == "names":
    names(sys.argv[2:])
else:
    files()
for words in FAILURES:
    print(words, file=sys.stderr)
sys.exit(bool(FAILURES))

"""The report of a run: complete, self-contained, well-formed, and with the numbers of metrics.json."""

import base64
import json
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from server.reports.plots import learning_curves
from server.reports.record import read_record
from server.reports.report import write_report
from shared_models.core.errors import BadInput
from shared_models.core.files import write_json
from shared_models.metrics import METRICS, compare, describe_predictions, score

CLASSES = ["normal", "UIP", "NSIP", "OP", "HP"]
SITES = ["Aalborg", "Bergamo", "Coimbra"]
SECTIONS = ["summary", "comparison", "detail", "sites", "training", "data", "pictures", "run", "reproduce", "glossary"]
VOID = {"meta", "img", "br", "hr", "input", "link"}


def png(pixels):
    """A grey PNG from a uint8 array, by the standard library."""
    height, width = pixels.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def predict(rng, labels, skill):
    logits = rng.normal(size=(len(labels), 5)) + skill * np.eye(5)[labels]
    powers = np.exp(1.3 * logits)
    return powers / powers.sum(axis=1, keepdims=True)


def write_run(folder, kind="phantom", classes_at_test=5):
    """A run folder with all files, its numbers computed from made-up predictions."""
    rng = np.random.default_rng(7)
    labels = np.arange(50) % classes_at_test
    held = {"federated": predict(rng, labels, 1.7), "pooled": predict(rng, labels, 2.0)}
    held |= {site: predict(rng, labels, skill) for site, skill in zip(SITES, (0.9, 0.5, 1.2), strict=True)}
    scored = {name: {"held_out": score(labels, p, CLASSES, bootstrap=200)} for name, p in held.items()}
    curves = {name: {"held_out": describe_predictions(labels, p, CLASSES)} for name, p in held.items()}
    sites = {site: score(y := rng.integers(0, 5, 12 + 4 * i), predict(rng, y, 1.8), CLASSES, bootstrap=200) for i, site in enumerate(SITES)}
    versus = {"local_only": [held[site] for site in SITES], "pooled": [held["pooled"]]}
    paired = {
        name: {metric: compare(METRICS[metric], labels, held["federated"], p, CLASSES, bootstrap=200) for metric in ("auroc_macro", "brier")}
        for name, p in versus.items()
    }
    metrics = {
        "experiment": "densenet-fedavg-demo", "seed": 17, "classes": CLASSES, "rounds": 12,
        "wall_s": {"prepare": 41.2, "federated": 96.4, "local_only": 61.0, "pooled": 33.3},
        "data": {"kind": kind, "note": "Four simulated hospitals, each with a scanner of its own; the fourth took no part in training."},
        "federated": {**scored["federated"], "sites": sites},
        "pooled": scored["pooled"], "local_only": {site: scored[site] for site in SITES}, "differences": paired,
    }  # fmt: skip
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "curves.json", {**{k: curves[k] for k in ("federated", "pooled")}, "local_only": {site: curves[site] for site in SITES}})
    rounds = []
    for r in range(1, 13):
        found = {}
        for i, site in enumerate(SITES):
            loss, area = 1.6 * np.exp(-r / (4 + i)) + 0.15 + 0.04 * rng.random(), 0.93 - 0.4 * np.exp(-r / (3 + i)) + 0.02 * rng.random()
            found[site] = {
                "num_cases": 40 + 10 * i,
                "steps": 20,
                "train_loss": loss,
                "metrics": {"auroc_macro": area},
                "refused": None,
                "bytes": 4_210_000,
            }
        missing, degraded = [], False
        if r in (5, 6):
            del found["Bergamo"]
            missing, degraded = ["Bergamo"], True
        if r == 9:
            found["Coimbra"] = {"num_cases": 0, "steps": 0, "train_loss": None, "metrics": {}, "refused": "E_REFUSED", "bytes": 0}
        share = {"missing_share": 0.333} if degraded else {}
        total = {**share, "wall_s": 7.5 + rng.random(), "missing": missing, "degraded": degraded, "norm": 3.0 / r, "bytes": 4_210_000 * len(found)}
        rounds.append({"round": r, "sites": found, **total})
    (folder / "rounds.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rounds))
    roles = [{"name": s, "scanner": f"{v}, {k} kernel, {t} mm", "cases": n, "role": role} for s, v, k, t, n, role in (
        ("Aalborg", "Vendor A", "sharp", 1.0, 40, "training"), ("Bergamo", "Vendor B", "soft", 1.5, 50, "training"),
        ("Coimbra", "Vendor C", "sharp", 1.25, 60, "training"), ("Dresden", "Vendor D", "soft", 2.0, 50, "held_out"))]  # fmt: skip
    write_json(folder / "run.json", {
        "model": "densenet121", "strategy": "fedavg", "parameters": 6_953_856, "sites": roles, "start": "2030-01-02T03:04:05Z",
        "digest": "ab" * 32, "command": "fedild run demo.toml --seed 17", "versions": {"fedild": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        "toml": '[model]\nname = "densenet121"\n\n[strategy]\nname = "fedavg"\n', "machine": {"cores": 2}, "durations": {"total": 231.9},
    })  # fmt: skip
    prepared = {"accepted": 38, "skipped": 3, "quarantined": 2, "findings": {"THICK_SLICES": 2, "GAP": 1}}
    write_json(folder / "site_reports.json", dict.fromkeys([*SITES, "Dresden"], prepared))
    _, y, x = np.mgrid[0:1, 0:180, 0:220]
    body = (((y - 90) / 80) ** 2 + ((x - 110) / 100) ** 2 < 1)[0]
    lungs = np.minimum(((y - 88) / 55) ** 2 + ((x - 65) / 36) ** 2, ((y - 88) / 55) ** 2 + ((x - 155) / 36) ** 2)[0] < 1
    names = [
        ("UIP at Aalborg", "Axial slice at the lung bases; lung mask outlined, planted honeycombing tinted"),
        ("NSIP at Bergamo", "Ground glass"),
        ("OP at Coimbra", ""),
    ]
    (folder / "pictures").mkdir()
    for i, _ in enumerate(names):
        noise = rng.normal(0, 14, body.shape)
        image = np.where(lungs, 45, np.where(body, 150, 5)) + noise + np.where(lungs & (y[0] > 100 + 10 * i), 60, 0)
        (folder / "pictures" / f"s{i}.png").write_bytes(png(np.clip(image, 0, 255).astype(np.uint8)))
    write_json(folder / "pictures" / "index.json", [{"file": f"s{i}.png", "title": t, "caption": c} for i, (t, c) in enumerate(names)])
    return folder


class Page(HTMLParser):
    """Walks a page: every element closed in order, ids unique, attributes collected."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.text, self.values, self.headings = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert len(found) == len(attributes), f"repeated attribute in <{tag}>"
        self.tags.append((tag, found))
        if "id" in found:
            assert found["id"] not in self.ids, found["id"]
            self.ids.append(found["id"])
        if tag == "data":
            self.values.append(found["value"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag not in VOID and self.open and self.open[-1] == tag, (tag, self.open[-3:], self.getpos())
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.text))


def page_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run"))
    write_report(folder)
    return folder


def test_nothing_is_asked_of_the_network(full):
    text = (full / "report.html").read_text()
    assert not re.search(r"https?://|//[a-z0-9.-]+\.[a-z]{2,}/|@import|url\(", text)
    page = Page(text)
    for tag, found in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "data", "poster", "srcset", "action"):
            assert name not in found or found[name].startswith(("#", "data:image/png;base64,")), (tag, name)
    policy = [found["content"] for tag, found in page.tags if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in policy[0]
    assert len(text) < 400_000


def test_every_section_is_there_and_can_be_reached(full):
    page = page_of(full)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert {found["href"][1:] for tag, found in page.tags if tag == "a"} <= set(page.ids)
    for name in re.findall(r'aria-labelledby="([^"]+)"', (full / "report.html").read_text()):
        assert set(name.split()) <= set(page.ids)


def test_it_can_be_read_by_ear(full):
    page = page_of(full)
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b <= a + 2 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert dict(page.tags[0][1])["lang"] == "en"
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables >= 8 and tables == sum(tag == "caption" for tag, _ in page.tags)
    assert all(found.get("scope") in ("row", "col") for tag, found in page.tags if tag == "th")
    pictures = [found for tag, found in page.tags if tag == "img"]
    assert len(pictures) == 3 and all(found["alt"] and int(found["width"]) == 220 for found in pictures)
    charts = [found for tag, found in page.tags if tag == "svg" and "aria-hidden" not in found]
    assert len(charts) >= 1 + 5 + 2 + 2 and all(found["role"] == "img" for found in charts)


def test_numbers_are_those_of_the_file(full):
    metrics, page = json.loads((full / "metrics.json").read_text()), page_of(full)
    printed = set(page.values)
    tables = [metrics["federated"]["held_out"], metrics["pooled"]["held_out"], *(found["held_out"] for found in metrics["local_only"].values())]
    tables += list(metrics["differences"].values())
    expected = [cell[key] for table in tables for name, cell in table.items() for key in ("value", "low", "high") if name != "mean_recall"]
    for table in metrics["federated"]["sites"].values():
        expected += [table[name][key] for name in ("auroc_macro", "balanced_accuracy", "accuracy") for key in ("value", "low", "high")]
    assert len(expected) > 150
    assert {str(value) for value in expected if value is not None} <= printed
    shown = {found["value"]: None for tag, found in page.tags if tag == "data"}
    html = (full / "report.html").read_text()
    for value in list(shown)[:200]:
        text = re.search(f'<data value="{re.escape(value)}">([^<]+)</data>', html).group(1)
        assert text[-1] in "sn" or float(text.replace("−", "-")) == pytest.approx(float(value), abs=6e-4)
    assert f"{metrics['federated']['held_out']['auroc_macro']['value']:.3f}" in page.words


def test_the_mean_of_hospitals_alone_has_a_range_and_no_interval(full):
    record = read_record(full)
    values = [record.metrics["local_only"][site]["held_out"]["auroc_macro"]["value"] for site in SITES]
    cell = record.arm("mean").cells["auroc_macro"]
    assert cell["value"] == pytest.approx(np.mean(values)) and (cell["least"], cell["most"]) == (min(values), max(values)) and cell["low"] is None


def test_the_summary_says_it_in_words(full):
    words = page_of(full).words
    for phrase in (
        "The model (densenet121) was trained with the strategy fedavg in 12 rounds on 150 synthetic patients at 3 hospitals",
        "On 50 synthetic patients of a hospital that took no part in training (Dresden)",
        "Hospitals that trained alone reached",
        "paired 95 % interval",
        "Bergamo did not answer in rounds 5–6.",
        "Coimbra refused with E_REFUSED (Policy, gate or update check said no) in round 9.",
        "Rounds 5–6 were degraded: closed with fewer hospitals than planned, without up to 33% of the patients.",
        "fedild run demo.toml --seed 17",
        "THICK_SLICES",
        "6,953,856",
        "ab" * 32,
    ):
        assert phrase in words, phrase


def test_banners(full, tmp_path):
    words = page_of(full).words
    assert "Research use only. Not a medical device." in words and "synthetic phantoms: says nothing about patients" in words
    real = page_of(write_run(tmp_path, kind="real")).words
    assert "Research use only. Not a medical device." in real and "says nothing about patients" not in real
    assert "(synthetic phantoms)" not in real and "150 patients" in real


def test_undefined_is_said_and_never_drawn(tmp_path):
    write_run(tmp_path, classes_at_test=4)  # the last class is absent from the unseen hospital
    page = page_of(tmp_path)
    assert "undefined" in page.words and "undefined: these cases do not hold both this class and another" in page.words
    html = (tmp_path / "report.html").read_text()
    assert not re.search(r"\b(nan|NaN|None|null|inf)\b", re.sub(r"base64,[^\"]+", "", html.split("</style>")[1]))


def test_metrics_alone_are_enough(tmp_path):
    write_json(tmp_path / "metrics.json", {"experiment": "bare", "federated": {"held_out": {"auroc_macro": None, "dice": 0.5}}})
    words = page_of(tmp_path).words
    assert "bare" in words and "undefined" in words and "No rounds are recorded." in words and "not recorded: do not read" in words
    write_json(tmp_path / "metrics.json", {})
    assert "No result on unseen cases is recorded." in page_of(tmp_path).words


def test_folds_show_mean_and_range(tmp_path):
    folds = {f"fold {i}": {"auroc_macro": {"value": v, "low": v - 0.1, "high": v + 0.1, "n": 10}} for i, v in enumerate((0.6, 0.7, 0.8))}
    write_json(tmp_path / "metrics.json", {"data": {"kind": "real"}, "federated": {"folds": folds}, "local_only": {"A": {"folds": folds}}})
    page = page_of(tmp_path)
    assert "Over 3 folds its AUROC (mean over classes) was 0.700 on average." in page.words and "range 0.600 to 0.800" in page.words
    assert "30" in page.words and {"0.6", "0.7", "0.8"} <= set(page.values)


def test_phantoms_and_patients_never_share_a_table(tmp_path):
    cells = {"accuracy": {"value": 0.5, "low": 0.2, "high": 0.8, "n": 10}}
    write_json(tmp_path / "metrics.json", {"data": {"kind": "real"}, "federated": {"sites": {"made_up": cells, "clinic": cells}}})
    write_json(tmp_path / "run.json", {"sites": [{"name": "made_up", "kind": "phantom"}, {"name": "clinic", "kind": "real"}]})
    tables = [t for t in write_report(tmp_path).read_text().split("<table")[1:] if "at each training hospital" in t]
    assert len(tables) == 2 and not any("made_up" in t.split("</table")[0] and "clinic" in t.split("</table")[0] for t in tables)


def test_few_real_patients_are_not_shown(tmp_path):
    cells = {"accuracy": {"value": 0.123456, "low": None, "high": None, "n": 4}}
    write_json(tmp_path / "metrics.json", {"data": {"kind": "real"}, "federated": {"sites": {"clinic": cells}}})
    page = page_of(tmp_path)
    assert "fewer than 5 cases: not shown" in page.words and "0.123456" not in page.values


def test_texts_from_files_cannot_break_the_page(tmp_path):
    write_run(tmp_path)
    evil = '<script>alert("x")</script>'
    run = json.loads((tmp_path / "run.json").read_text())
    write_json(tmp_path / "run.json", {**run, "model": evil, "command": evil, "toml": f"</pre>{evil}"})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    metrics["local_only"] = {evil: metrics["local_only"]["Aalborg"]}
    write_json(tmp_path / "metrics.json", {**metrics, "experiment": evil})
    assert "script" not in [tag for tag, _ in page_of(tmp_path).tags]


def test_damaged_files_are_named_not_fatal(tmp_path):
    write_run(tmp_path)
    (tmp_path / "curves.json").write_text('{"federated": ')
    with open(tmp_path / "rounds.jsonl", "a") as file:
        file.write('{"round": 13, "si')
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    (tmp_path / "pictures" / "text.png").write_text("no picture")
    write_json(tmp_path / "pictures" / "index.json", [{"file": "../secret.png"}, {"file": "gone.png"}, {"file": "text.png"}, "odd"])
    page = page_of(tmp_path)
    assert "curves.json is damaged" in page.words and "torn line of rounds.jsonl" in page.words
    assert "img" not in [tag for tag, _ in page.tags]
    assert base64.b64encode(b"\x89PNG").decode()[:5] not in (tmp_path / "report.html").read_text()


def test_a_round_that_was_run_again_counts_once(tmp_path):
    write_json(tmp_path / "metrics.json", {})
    lines = [{"round": r, "sites": {"A": {"train_loss": loss, "num_cases": 3}, "B": None}} for r, loss in ((1, 9.0), (2, 8.0), (1, 3.0))]
    (tmp_path / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [one["sites"]["A"]["train_loss"] for one in read_record(tmp_path).rounds] == [3.0, 8.0]


def test_a_loss_that_sites_tell_as_a_metric_is_no_validation(tmp_path):
    write_json(tmp_path / "metrics.json", {})
    lines = [{"round": r, "sites": {"A": {"metrics": {"train_loss": 1.0 / r}, "num_cases": 3}}} for r in (1, 2, 3)]
    (tmp_path / "rounds.jsonl").write_text("\n".join(map(json.dumps, lines)))
    [drawn] = learning_curves(read_record(tmp_path), "harrell_c")
    assert (drawn["title"], drawn["metric"]) == ("Training loss", None) and "A from 1.000 to 0.333" in drawn["svg"]


def test_a_folder_without_metrics_is_refused(tmp_path):
    with pytest.raises(BadInput, match=re.escape("metrics.json")):
        write_report(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(BadInput, match="must be JSON"):
        write_report(tmp_path)
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(BadInput, match="table"):
        write_report(tmp_path)


def test_the_same_run_gives_the_same_page(full):
    first = write_report(full).read_bytes()
    assert write_report(full).read_bytes() == first


def test_personal_models_stand_beside_the_federated_one(full, tmp_path):
    assert "personal model" not in page_of(full).words
    write_run(tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    sites = metrics["federated"]["sites"]
    gains = {site: 0.05 if site != "Bergamo" else -0.05 for site in sites}
    metrics["federated"]["personal"] = {
        site: {name: {**cell, "value": 0.5 + gains[site] if name == "auroc_macro" else cell["value"]} for name, cell in cells.items()}
        for site, cells in sites.items()
    }
    for cells in sites.values():
        cells["auroc_macro"]["value"] = 0.5
    write_json(tmp_path / "metrics.json", metrics)
    write_report(tmp_path)
    page = page_of(tmp_path)
    assert "2 of 3 hospitals did better with the personal model, whose mean" in page.words
    assert "was 0.517 against 0.500 of the federated one" in page.words
    assert "The personal model of each training hospital, at that hospital (synthetic phantoms), on the same cases" in page.words
    assert {str(0.5 + gain) for gain in gains.values()} <= set(page.values)

"""What a researcher writes in an afternoon: federated averaging in one process, with PyTorch alone. Nothing of ours but the small network.

python bench/plain_loop.py FOLDER    reads FOLDER/plain.json and FOLDER/<site>/records.npz, writes FOLDER/plain.pt
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch


def build(model, outputs):
    if model["name"] == "densenet121":
        from monai.networks.nets.densenet import DenseNet121

        return DenseNet121(spatial_dims=3, in_channels=1, out_channels=outputs, norm=("group", {"num_groups": 8}))
    from shared_models.blocks.bags import AttentionBag, SliceEncoder

    return AttentionBag(SliceEncoder(1, tuple(model["widths"]), model["features"], model["bins"]), model["features"], outputs, 0.1, True)


def main(folder):
    plan = json.loads((folder / "plain.json").read_text())
    train = plan["train"]
    torch.manual_seed(0)
    model = build(plan["model"], 2)
    records = {}
    for site in plan["sites"]:
        with np.load(folder / site / "records.npz") as file:
            records[site] = torch.from_numpy(file["inputs"]), torch.from_numpy(file["labels"])
    total = sum(len(labels) for _, labels in records.values())
    current = {key: value.clone() for key, value in model.state_dict().items()}
    steps = 0
    for _ in range(plan["federation"]["rounds"]):
        mean = {key: torch.zeros_like(value) for key, value in current.items()}
        for inputs, labels in records.values():
            model.load_state_dict(current)
            model.train()
            optimiser = torch.optim.AdamW(model.parameters(), lr=train["optimiser"]["lr"], weight_decay=train["optimiser"]["weight_decay"])
            order = torch.randperm(len(labels))
            for step in range(train["steps"]):
                chosen = order[step * train["batch"] : (step + 1) * train["batch"]]
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
                optimiser.step()
                steps += 1
            for key, value in model.state_dict().items():
                mean[key] += value * (len(labels) / total)
        current = mean
    torch.save(current, folder / "plain.pt")
    (folder / "plain_steps").write_text(str(steps))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

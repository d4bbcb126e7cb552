"""The text of the training script that `tuner export --script` writes; `script.py` fills its places in."""

IMPORTS = (
    "import contextlib",
    "import csv",
    "import hashlib",
    "import math",
    "import random",
    "from pathlib import Path",
    "import numpy as np",
    "import torch",
    "from torch import nn",
)

SAME = "On the CPU, with the versions below, every number of the curve is the run's to the last digit."
SAME_START = """\
The run was made on a GPU, this trains on the CPU: the first weights and the order of the examples are the run's; what
augmentation and dropout draw, and the last digits, are not."""
HEAD = '''"""Train the winner of the tuner run {run} again, in plain PyTorch.

    python {file}          # writes {stem}_curve.csv and {stem}_weights.pt beside this file

Trial {trial}, {epochs} epochs, seed {seed}; best {monitor} {score} at epoch {best_epoch}. {data_file} holds which
examples are in which split{data_words}.
{same}

{versions}
"""

from __future__ import annotations

{imports}

HERE = Path(__file__).resolve().parent
SEED = {seed}
EPOCHS = {epochs}
BATCH_SIZE = {batch_size}
EVAL_BATCH_SIZE = {eval_batch_size}
CLIP_NORM = {clip_norm}
SPLITS = np.load(HERE / "{data_file}")
'''
BEGINS = HEAD.partition("{run}")[0]  # what a script is known by that tuner wrote

NORMALISE = '''

# -- the data -----------------------------------------------------------------------------------------------------


def load():
    """Return (inputs, targets) of each source that splits are taken from; images are (N, height, width, channels)."""
{load}

def read(source, positions):
    """Return inputs and targets at these positions."""
    inputs, targets = source
    if isinstance(inputs, torch.Tensor):
        taken = inputs[positions]
        return {taken}, targets[positions]
    return torch.stack([torch.as_tensor(inputs[int(i)][0]) for i in positions]), targets[positions]


def normalise(inputs):
    """Return a batch as the model sees it."""
{normalise}

def augment(inputs, targets, generator):
    """Return a train batch with its random changes, before it is normalised."""
{augment}    return inputs, targets


def steps_per_epoch(size):
    """Return the number of batches; a last one of a single example is left out."""
    full, rest = divmod(size, BATCH_SIZE)
    return full + (rest > 1 or (rest == 1 and full == 0))


def train_batches(source, epoch):
    """Give the batches of one epoch; their order and their augmentation follow from the seed and the epoch alone."""
    generator = torch.Generator().manual_seed(stream("order", epoch))
{targets}    order = {order}
    draws = torch.Generator().manual_seed(stream("augment", epoch))
    chosen = torch.from_numpy(SPLITS["train"]).index_select(0, order).split(BATCH_SIZE)
    for positions in chosen[: steps_per_epoch(len(order))]:
        inputs, targets = augment(*read(source, positions), draws)
        yield normalise(inputs), targets


class Batches:
    """The batches of one split in its fixed order; it can be iterated again and again."""

    def __init__(self, source, split, size=EVAL_BATCH_SIZE, order=slice(None)):
        self.source, self.positions = source, torch.from_numpy(SPLITS[split])[order].split(size)

    def __len__(self):
        return len(self.positions)

    def __iter__(self):
        for positions in self.positions:
            inputs, targets = read(self.source, positions)
            yield normalise(inputs), targets


# -- training -----------------------------------------------------------------------------------------------------


def stream(*names):
    """Return the seed of what `names` name: every random draw has a stream of its own."""
    text = "/".join(str(part) for part in (SEED, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed):
    """Seed the global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def autocast():
    """Return the context of forward passes: the precision of the run."""
    return {autocast}


{helpers}{loss}

def build_model(source):
    """Return the network with its first weights."""
    seed_everything(stream("init"))
    model = {model}
{after_model}    return model{layout}.train()

{points}{step}

{evaluate}

def main():
    torch.set_num_threads({threads})
    sources = load()
    steps = {steps}
    total_steps = EPOCHS * steps
    model = build_model(sources["train"])
    optimizer = {optimizer}
    schedule = {schedule}
{make_points}    updates = []
    optimizer.register_step_post_hook(lambda *_: updates.append(1))
    curve, best, scheduled = [], None, 0

    for epoch in range(1, EPOCHS + 1):
{patience}        seed_everything(stream("dropout", epoch))
        model.train()
{freeze}        losses, sizes, hits, norm = [], [], [], None
        for {batch} in {batches}:
            lr, before = optimizer.param_groups[0]["lr"], len(updates)
            value, hit, norm = train_step({step_arguments})
            losses.append(float(value.detach()))
            sizes.append({size})
            hits += [] if hit is None else [hit]
{after_update}{step_schedule}        row = {{"step": len(updates), "epoch": epoch, "split": "train"}}
        row["loss"] = math.fsum(a * b for a, b in zip(losses, sizes)) / sum(sizes)
        row["lr"] = float(lr)
        if len(hits) == len(losses):
            row["accuracy"] = float(torch.stack(hits).sum()) / sum(sizes)
        if norm is None:
            grads = [item.grad for item in model.parameters() if item.grad is not None]
            norm = nn.utils.get_total_norm(grads) if grads else None
        if norm is not None:
            row["grad_norm"] = float(norm)
        curve.append(row)
{measure}        shown = f"train loss {{row['loss']:.4f}}  val {monitor_key} {{values['{monitor_key}']:.4f}}"
        print(f"epoch {{epoch}}/{{EPOCHS}}  {{shown}}")
{epoch_schedule}
    columns = list(dict.fromkeys(key for row in curve for key in row))
    with open(HERE / "{stem}_curve.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\\n")
        writer.writeheader()
        writer.writerows(curve)
    print(f"best epoch {{best[2]}}")


if __name__ == "__main__":
    main()
'''

MEASURE = """        for split in {splits}:
            values = evaluate(model, Batches(sources[{source_of}], split))
            curve.append({{"step": len(updates), "epoch": epoch, "split": split, **values}})
        score, val_loss = {sign}values["{monitor_key}"], values["loss"]
        if {better}(score, val_loss, best and best[:2]):
            best = score, val_loss, epoch
            torch.save(model.state_dict(), HERE / "{stem}_weights.pt")
"""

EVALUATED = """        order = {mixed_order}(len(SPLITS["train"]), BATCH_SIZE, stream("statistics"))
        mixed = Batches(sources["train"], "train", BATCH_SIZE, order)
        with points.evaluated(model=model, batches=mixed, epoch=epoch, epochs=EPOCHS):
"""

AFTER_UPDATE = """            if len(updates) > before:
                points.after_update(model=model, step=len(updates), total_steps=total_steps, steps_per_epoch=steps)
"""

PATIENCE = """        if best is not None and epoch - 1 - best[2] >= {patience}:
            break
"""

FIRST_INPUTS = '''
def first_inputs(source):
    """Return some examples of train, which the first weights are measured on."""
    return next(iter(Batches(source, "train", 256)))[0]
'''

POINTS = '''
def build_points(model):
    """Return what has its say within a step: penalties, averages of the weights and the like."""
{body}    return {points}(
        [{parts}]
    )

'''

AS_FLOAT = '''def as_float(outputs):
    """Return outputs of reduced precision as float32."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
'''

ARE_SCORES = '''def are_scores(outputs, targets):
    """Return whether outputs are one row of class scores per example."""
    return outputs.ndim == 2 and outputs.shape[0] == len(targets) and targets.ndim == 1


def hard(targets):
    """Return classes; of shares of the classes (mixed examples) the largest."""
    return targets.argmax(dim=1) if targets.ndim == 2 and targets.is_floating_point() else targets
'''

STEP = '''
def train_step(model, inputs, targets, optimizer):
    """Make one update; return the loss before it, how many answers were right, and the norm of the gradients."""
    optimizer.zero_grad()
    with autocast():
        outputs = as_float(model(inputs))
    value = loss(outputs, targets)
    value.backward()
    norm = None if CLIP_NORM is None else nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    labels = hard(targets)
    right = (outputs.detach().argmax(dim=1) == labels).sum() if are_scores(outputs, labels) else None
    return value, right, norm
'''

WHOLE_STEP = '''
def groups_of(batches):
    """Give the batches that each update is made of."""
    batches = iter(batches)
    while group := list(itertools.islice(batches, {accumulate})):
        yield group


def train_step(model, batches, optimizer{points}):
    """Make one update; return the objective before it, how many answers were right, and the norm of the gradients."""
    tape = {Tape}(SCORER)
    how = {How}(autocast, None, CLIP_NORM{penalty})
    value = {default_step}(model, batches, loss, optimizer, how, tape)
    return value, tape.hits[0] if tape.hits else None, tape.grad_norm
'''

OWN_STEP = '''
def train_step(model, inputs, targets, optimizer):
    """Make one update with your own step."""
    offered = {{"model": model, "batch": (inputs, targets), "loss": loss, "optimizer": optimizer}}
    with autocast():
        value = {function}(**{{name: offered[name] for name in {asks}}})
    return torch.as_tensor(value), None, None
'''

EVALUATE = '''
@torch.no_grad()
def evaluate(model, batches):
    """Return the loss and the accuracy, each a mean over examples."""
    model.eval()
    losses, sizes, hits = [], [], []
    for inputs, targets in batches:
        with autocast():
            outputs = as_float(model(inputs))
        losses.append(loss(outputs, targets))
        sizes.append(len(targets))
        if are_scores(outputs, targets):
            hits.append((outputs.argmax(dim=1) == targets).sum())
    weights = torch.tensor(sizes, dtype=torch.float64)
    values = {"loss": float((torch.stack(losses).double() * weights).sum() / sum(sizes))}
    if len(hits) == len(sizes):
        values["accuracy"] = float(torch.stack(hits).sum()) / sum(sizes)
    return values
'''

WHOLE_EVALUATE = '''
def evaluate(model, batches):
    """Return the loss and the scores of the task."""
    return {evaluate}(model, batches, loss, SCORER, {metric}, autocast)
'''

OWN_EVALUATE = '''
def evaluate(model, batches):
    """Return what your own evaluation gives."""
    offered = {{"model": model, "batches": batches, "loss": loss}}
    return {{key: float(value) for key, value in {function}(**{{name: offered[name] for name in {asks}}}).items()}}
'''

STEP_SCHEDULE = """            for _ in range(min(len(updates) - before, total_steps - scheduled)):
                schedule.step()
                scheduled += 1
"""

EPOCH_SCHEDULE = """        if scheduled < total_steps:
            schedule.step({told})
            scheduled += 1
"""

"""Which kind of value an argument takes, by its name."""

from tests.fuzz.material import RESULTS
from tests.fuzz.values import HUGE, KINDS

KINDS = {**KINDS, "result": RESULTS}
OF = {
    "model": "model other network decoder encoder",
    "layers": "layers layer objectives objective pictures name *names channel by",
    "array": (
        "images labels x y maps inputs matrix sample start against activations vectors sprites values weight *args *sample"
        " latents coordinates image mask order positions fill vector embeddings index epochs"
    ),
    "loader": "loader",
    "number": (
        "seed k limit image columns shown steps lr permutations confidence sd decay index axis pixels degrees low high"
        " sigma alpha bandwidth discard folds chunk record_every redirect_relu shape position axis epoch step every rate"
        " top size *size pairings rotations hidden batch dim samples surrogates max_samples bins classes ablation first_row"
        " latent_dim n ignore_index x_ceiling label_entropy best shard q rows"
    ),
    "word": (
        "units null backend mode fill metric reduce method strategy correction kernel distance correlation scale measure first"
        " effort family variant marginals bound weights sign partners tag title per ylabel"
    ),
    "flag": (
        "progress detach clone resume stop_early relative debiased legacy angular autocast descending training"
    ),
    "path": "path folder to paths log_dir one parts",
    "callable": "preprocess inputs labels rows function optimizer transforms estimator log draw metric reduce",
    "result": (
        "result statistics information importance comparison parametrization whitening counts objective ax curves"
        " receptive_field observer estimator transforms encoding other parts seeds order"
    ),
    "other": (
        "classes groups channels device dtype titles part output position edges shard generator seed layers title"
    ),
}
WORK = {"steps", "permutations", "pairings", "samples", "surrogates", "rotations", "hidden", "batch"}
"""However much the user asks for is done, so that huge values take as long as they say."""


def draw(name, chance):
    """Return a description and a maker of a value for an argument, mostly of the kind that it takes."""
    kinds = [kind for kind, names in OF.items() if name in names.split()] or ["number", "other", "word"]
    kind = chance.choice(kinds if chance.random() < 0.93 else list(KINDS))
    values = {**KINDS[kind], **(HUGE if kind == "number" and name not in WORK else {})}
    if kind not in kinds:
        values.pop(
            "shuffled", None
        )  # where no loader is expected, what it draws when it is read is its own doing
    what = chance.choice(list(values))
    make = values[what]
    return f"{kind}: {what}", (lambda: (make(),)) if name.startswith("*") else make

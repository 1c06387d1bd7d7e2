"""What rules read. The rules that are named here are defined when one of these functions is called."""


def made_by(stage, pattern):
    """Input: a result of a stage, in the folder of the variant that makes it for this one."""
    return lambda wildcards: made_for(wildcards, stage, pattern)


def shards_by(stage, pattern):
    """Input: all shards of a stage, as in `made_by`."""
    return lambda wildcards: shards_for(wildcards, stage, pattern)


def made_for(wildcards, stage, pattern, **values):
    """A file by its pattern; without a round, that of the last one."""
    values = {"round": CONFIG.rounds, **dict(wildcards.items()), **values}
    owner = VARIANTS.owner(values["variant"], stage, int(values["round"]))
    return str(pattern).format(**{**values, "variant": owner})


def shards_for(wildcards, stage, pattern, **values):
    return all_shards(made_for(wildcards, stage, pattern, scatteritem="{scatteritem}", **values))


def all_shards(pattern, **wildcards):
    """A stage's files of all shards.

    Snakemake's own scattergather has one number for a whole run, whose modules may have one each.
    """
    numbers = range(1, CONFIG.shards + 1)
    return expand(pattern, scatteritem=[f"{number}-of-{CONFIG.shards}" for number in numbers], **wildcards)


def require_kind(kind):
    """No input, but a refusal of rules that are for data sets of another kind: `ecsnet` would lay one out there."""

    def require(wildcards):
        if SOURCE.kind != kind:
            raise WorkflowError(f"dataset.kind: {SOURCE.kind}, but this target is for kind {kind} alone")
        return []

    return require


def require_voc_root(wildcards):
    """No input, but a last look before VOC is fetched: has it a place to go to?"""
    if MADE:
        raise WorkflowError(
            f"dataset.kind: {SOURCE.kind}, but `download` is for VOC 2012; set it to voc, with a root of its own"
        )
    checked(runs.require_folders, [ROOT])
    return []


def require_test_images(wildcards):
    """What the test images are made of, after a look whether they are there."""
    checked(testset.require_images, SOURCE, CONFIG.submission.test_list)
    return made_of()


def masks_to_check(part):
    """The folder of true masks that scores need."""
    masks = MASKS[part][1]
    if masks is None:
        raise WorkflowError(
            f"there are no true masks ({part}), so there is nothing to score with; set score.train_masks and "
            "score.val_masks, or for a folder of your own dataset.masks"
        )
    return masks


def weights_of(backbone):
    """The file with a backbone's ImageNet weights; nothing where it starts from random ones."""
    if backbone.weights == "none":
        return []
    if backbone.weights in ("timm", "package"):
        return f"resources/weights/{backbone.name}-{backbone.weights}.safetensors"
    if not os.path.isfile(backbone.weights):  # Path.is_file fails on names that are too long
        raise WorkflowError(
            f"backbone.weights of {backbone.name}: there is no file {backbone.weights} (relative to where "
            "snakemake runs); give timm, package, none, or the path of a .safetensors file"
        )
    return backbone.weights


def made_of(*parts):
    """What stands for the pictures and tags of a data set that a rule makes."""
    if FOLDER:
        return expand(rules.import_folder.output, part=parts)
    if COCO:
        return expand(rules.import_coco.output, part=parts)
    return rules.demo.output if MADE else []


def masks_made(wildcards):
    """What stands for the true masks of a data set that a rule makes."""
    if COCO:
        return expand(rules.import_coco_masks.output, part=MASKS[wildcards.part][0])
    return rules.import_masks.output if FOLDER else []


def start_of_round(wildcards):
    """The network that a round starts from, and the labels that it learns from."""
    before = int(wildcards.round) - 1
    if before == 0:
        return {
            "weights": made_for(wildcards, "train_cam", rules.train_cam.output.weights),
            "labels": shards_for(wildcards, "evidence", rules.evidence.output),
        }
    return {
        "weights": made_for(wildcards, "train_ecs", ECS_WEIGHTS, round=before),
        "labels": shards_for(wildcards, "ecs_labels", ECS_LABELS, round=before),
    }


def labels_to_filter(wildcards):
    """ECS-Net's labels of the last round; for the baseline without it, the evidence."""
    source = VARIANTS.source(wildcards.variant)
    return shards_for(wildcards, source, LABELS[source])


def predicted(wildcards):
    """The table of images to predict: of one's own photographs all, but for a variant, which is only scored."""
    every = FOLDER and not wildcards.variant
    return rules.prepare_all.output if every else rules.prepare_val.output


def scored(wildcards):
    """What is scored: the shards of a stage, or its table of label images."""
    stage = SOURCES[wildcards.what]
    shards = stage in ("erase", "evidence", "ecs_labels")
    return (shards_for if shards else made_for)(wildcards, stage, RESULT_OF[stage])


def split_of(what):
    return "val" if what in ("val", "supervised") else "train"


def list_of(what):
    """The name of the list that is scored, without its folder."""
    return Path({"train": CONFIG.score.train_list, "val": VAL_SCORED}[split_of(what)]).stem


def scores_of(whats):
    return expand(rules.score.output.score, what=whats, variant="")


def can_be_scored(what):
    """Whether there are true masks of the images."""
    masks = [CONFIG.score.val_masks if split_of(what) == "val" else CONFIG.score.train_masks]
    if what == "supervised":
        masks.append(CONFIG.supervised.masks)
    return None not in masks


def bound_summary(wildcards):
    """The table with the bound in it."""
    masks_to_check("supervised")
    return rules.summary.output if CONFIG.supervised.enabled else rules.summary_supervised.output

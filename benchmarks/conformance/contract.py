"""Checks of ``detectors.interface.Detector`` except geometry."""

from __future__ import annotations

import numpy as np

from ovd_bench.benchmarks.conformance.outcome import PLAN, TOP_K, CheckFailed, CheckSkipped, TestedDetector
from ovd_bench.benchmarks.conformance.pictures import FIGURES, ODD_NAMES, OTHERS, figures, many_classes
from ovd_bench.benchmarks.conformance.tolerance import ROUNDING, SAME, expect_same
from ovd_bench.benchmarks.store.describe import detector_info
from ovd_bench.detectors.interface import GroundingDetector, SpanDetector
from ovd_bench.detectors.prompts import PromptPlan
from ovd_bench.detectors.types import Detections, DetectorError, Grounding, Image, Vocabulary


def answers(subject: TestedDetector) -> str:
    """An ordinary image gets boxes, of the right types, with its id and size."""
    found = subject.answer
    if not len(found) and "open_vocabulary" in subject.detector.card.capabilities:
        raise CheckFailed(
            "boxes on an image full of figures of the given classes", "none: is there a threshold before AP?"
        )
    return f"{len(found)} boxes"


def card(subject: TestedDetector) -> str:
    """The card of the loaded detector has what a result file needs."""
    known = subject.detector.card
    try:
        detector_info(known, subject.name)
    except DetectorError as error:
        raise CheckFailed("a card with all that a result file needs", str(error)) from error
    if known.training_data is None:
        return "training_data is None: the board will flag that contamination is not known"
    return ", ".join(data.dataset for data in known.training_data) or "no training data"


def unprepared(subject: TestedDetector) -> str:
    """``detect`` before ``set_vocabulary`` is refused with an explicit error."""
    detector = subject.fresh(TOP_K)
    try:
        detector.detect([Image(1, subject.picture)])
    except DetectorError as error:
        return str(error)
    raise CheckFailed("a DetectorError", "an answer")


def order_of_scores(subject: TestedDetector) -> str:
    """Best first."""
    found = subject.answer
    rises = np.flatnonzero(np.diff(found.scores) > 0)
    if len(rises):
        row = int(rises[0])
        raise CheckFailed("scores in descending order", f"{found.scores[row]:.6g}, then {found.scores[row + 1]:.6g}")
    return ""


def top_k(subject: TestedDetector) -> str:
    """No more than ``top_k`` pairs, and they are the best ones."""
    if len(subject.answer) > TOP_K:
        raise CheckFailed(f"at most {TOP_K} boxes", str(len(subject.answer)))
    few = subject.fresh(5)
    few.set_vocabulary(FIGURES, PLAN)
    found = few.detect([Image(101, subject.picture)])[0]
    best = subject.answer.scores[:5]
    if len(found) != len(best):
        raise CheckFailed(f"{len(best)} boxes with top_k 5", str(len(found)))
    if not np.allclose(found.scores, best, rtol=ROUNDING.score, atol=0):
        raise CheckFailed(f"the best scores {_numbers(best)} with top_k 5", _numbers(found.scores))
    return ""


def repeats(subject: TestedDetector) -> str:
    """The same image with the vocabulary set again gives the same result."""
    expect_same(subject.answer, subject.ask(subject.picture), SAME, "the same answer the second time")
    return ""


def keeps_no_state(subject: TestedDetector) -> str:
    """An image gives the same result alone and after another one."""
    what = "the same answer for an image after another image"
    subject.ask(figures(260, 330, seed=5))
    expect_same(subject.answer, subject.again([subject.picture])[0], SAME, what)
    expect_same(subject.answer, subject.again([subject.picture])[0], SAME, what)
    return ""


def batch(subject: TestedDetector) -> str:
    """Images of several sizes give the same results in one batch and one by one."""
    pictures = [subject.picture, figures(120, 310, seed=3), figures(90, 70, seed=4), subject.picture[:, :64]]
    together = subject.ask_all(pictures)
    for number, (pixels, found) in enumerate(zip(pictures, together, strict=True)):
        what = f"the same answer for image {number + 1} of a batch as for the image alone"
        expect_same(subject.again([pixels])[0], _renumbered(found), ROUNDING, what)
    if subject.again([]):
        raise CheckFailed("an empty list for no images", "answers")
    return f"{len(pictures)} sizes; scores within {ROUNDING.score:g}, boxes within {ROUNDING.box:g} of the longer side"


def inputs(subject: TestedDetector) -> str:
    """Input arrays are not modified."""
    pixels = subject.picture.copy()
    subject.ask(Image(101, pixels))
    if not np.array_equal(pixels, subject.picture):
        raise CheckFailed("unchanged pixels", "other pixels after detect")
    return ""


def memory_layout(subject: TestedDetector) -> str:
    """Read-only arrays and non-contiguous views give the same results as plain copies."""
    view = np.ascontiguousarray(subject.picture[:, ::-1])[:, ::-1]
    view.flags.writeable = False
    expect_same(
        subject.answer, subject.ask(Image(101, view)), SAME, "the same answer for a read-only view as for a copy"
    )
    return ""


def thin_and_huge(subject: TestedDetector) -> str:
    """Images of one pixel, one row, one column and of many megapixels work."""
    sizes = ((1, 1), (1, 240), (240, 1), (6000, 40), (4000, 3000))
    subject.detector.set_vocabulary(FIGURES, PLAN)
    for width, height in sizes:
        try:
            subject.again([figures(width, height)])
        except (CheckFailed, ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise CheckFailed(
                f"an answer for a {width} x {height} image", f"{type(error).__name__}: {error}"
            ) from error
    return ", ".join(f"{width} x {height}" for width, height in sizes)


def one_class(subject: TestedDetector) -> str:
    """A vocabulary of one class works."""
    return f"{len(subject.ask(subject.picture, FIGURES.take([1])))} boxes"


def many(subject: TestedDetector) -> str:
    """A vocabulary of 1,203 classes works."""
    return f"{len(subject.ask(subject.picture, many_classes(1203)))} boxes"


def odd_names(subject: TestedDetector) -> str:
    """Names with qualifiers, separators, accents and braces, and long ones, work."""
    found = subject.ask(subject.picture, ODD_NAMES, PromptPlan(chunk_classes=3))
    return f"{len(found)} boxes"


def same_name(subject: TestedDetector) -> str:
    """Two categories with the same name both get boxes, equal ones if classes are independent."""
    twins = Vocabulary((30, 60, 90), (FIGURES.names[0], FIGURES.names[0], FIGURES.names[1]))
    found = subject.ask(subject.picture, twins)
    scores = {category: found.scores[found.category_ids == category] for category in (30, 60)}
    counts = {category: len(values) for category, values in scores.items()}
    if not any(counts.values()):
        raise CheckSkipped("no boxes for the name in question")
    if not all(counts.values()):
        raise CheckFailed("boxes for both categories with the same name", f"counts {counts}")
    best = {category: float(values.max()) for category, values in scores.items()}
    if not subject.joint and not np.isclose(best[30], best[60], rtol=ROUNDING.score, atol=0):
        raise CheckFailed("equal scores for two categories with the same name", f"best scores {best}")
    return ""


def switching(subject: TestedDetector) -> str:
    """Switching to another vocabulary and back gives the first result again."""
    subject.ask(subject.picture, OTHERS)
    back = subject.ask(subject.picture)
    expect_same(subject.answer, back, SAME, "the first answer after another vocabulary and back")
    return ""


def order_of_classes(subject: TestedDetector) -> str:
    """The order of the vocabulary has no effect with a plan that sorts, and none at all if classes are independent."""
    turned = FIGURES.take([3, 0, 4, 2, 1])
    expect_same(
        subject.answer,
        subject.ask(subject.picture, turned),
        ROUNDING,
        "the same answer with the vocabulary in another order and a plan that sorts by id",
    )
    if subject.joint:
        return "only a plan sorted by id: classes of a chunk affect each other"
    plan = PromptPlan(order="vocabulary")
    what = "the same answer with the classes in another order"
    expect_same(subject.ask(subject.picture, FIGURES, plan), subject.ask(subject.picture, turned, plan), ROUNDING, what)
    expect_same(subject.answer, subject.ask(subject.picture, turned, plan), ROUNDING, what)
    return ""


def company(subject: TestedDetector) -> str:
    """The score of a class is the same alone, with other classes and in chunks, unless the card lists ``joint``."""
    if subject.joint:
        raise CheckSkipped("classes of a chunk affect each other (capability joint)")
    expect_same(
        subject.answer,
        subject.ask(subject.picture, FIGURES, PromptPlan(chunk_classes=2)),
        ROUNDING,
        "the same answer with chunks of two classes",
    )
    for row in range(2):
        category = FIGURES.ids[row]
        alone = subject.ask(subject.picture, FIGURES.take([row])).scores
        among = subject.answer.scores[subject.answer.category_ids == category]
        if len(among) > len(alone) or not np.allclose(among, alone[: len(among)], rtol=ROUNDING.score, atol=0):
            raise CheckFailed(
                f"the same scores of category {category} alone as with others, {_numbers(among[:5])}",
                _numbers(alone[:5]),
            )
    return ""


def templates(subject: TestedDetector) -> str:
    """A plan with several templates works if the card lists ``templates``, and is refused otherwise."""
    plan = PromptPlan(templates=("a photo of a {}.", "art of the {}."))
    if "templates" in subject.detector.card.capabilities:
        for ensemble in ("logits", "embeddings"):
            subject.ask(subject.picture, FIGURES, PromptPlan(templates=plan.templates, ensemble=ensemble))
        return "logits and embeddings averaged"
    try:
        subject.detector.set_vocabulary(FIGURES, plan)
    except DetectorError as error:
        return f"refused: {error}"
    raise CheckFailed("a DetectorError, because the card does not list templates", "no error")


def grounding(subject: TestedDetector) -> str:
    """Captions get boxes with spans, the same in batches and alone; given phrases the same together and alone."""
    if "grounding" not in subject.detector.card.capabilities:
        raise CheckSkipped("the card does not list grounding")
    detector = subject.detector
    if not isinstance(detector, GroundingDetector):
        raise CheckFailed("a method ground, because the card lists grounding", "none")
    images = [Image(101, subject.picture), Image(102, figures(120, 310, seed=3))]
    captions = ["a red circle beside a blue square", "Green triangles, and a yellow circle."]
    found = detector.ground(images, captions)
    if not isinstance(found, list) or not all(isinstance(answer, Grounding) for answer in found) or len(found) != 2:
        raise CheckFailed("a list of 2 Grounding", f"{type(found).__name__} {repr(found)[:80]}")
    for image, caption, answer in zip(images, captions, found, strict=True):
        if (answer.image_id, answer.caption) != (image.id, caption):
            raise CheckFailed(f"image {image.id} and {caption!r}", f"image {answer.image_id} and {answer.caption!r}")
        if (np.diff(answer.scores) > 0).any():
            raise CheckFailed("scores in descending order", _numbers(answer.scores[:5]))
        alone = detector.ground([image], [caption])[0].scores
        if abs(len(alone) - len(answer.scores)) > ROUNDING.strays * len(alone) or not np.allclose(
            alone[:20], answer.scores[:20], rtol=ROUNDING.score, atol=1e-6
        ):
            raise CheckFailed(
                f"the scores of image {image.id} alone: {_numbers(alone[:5])}", _numbers(answer.scores[:5])
            )
    given = _given_phrases(detector, images[0]) if isinstance(detector, SpanDetector) else ""
    return f"{len(found[0].scores)} and {len(found[1].scores)} boxes{given}"


def _given_phrases(detector: SpanDetector, image: Image) -> str:
    caption, phrases = "a red circle. beside no. 3, a blue square", [[(0, 12)], [(14, 20), (29, 41)], []]
    vocabulary = Vocabulary(tuple(range(len(phrases))), tuple(map(str, phrases)))
    together = detector.ground_spans(image, caption, phrases)
    if not isinstance(together, Detections) or together.image_id != image.id:
        raise CheckFailed(f"Detections of image {image.id} from ground_spans", repr(together)[:80])
    together.check_vocabulary(vocabulary)
    for number, spans in enumerate(phrases):
        scores = together.scores[together.category_ids == number]
        if (np.diff(scores) > 0).any() or len(scores) > TOP_K:
            raise CheckFailed(f"at most {TOP_K} boxes of a phrase, best first", _numbers(scores[:5]))
        alone = detector.ground_spans(image, caption, [spans]).scores
        if len(alone) != len(scores) or not np.allclose(alone, scores, rtol=ROUNDING.score, atol=1e-6):
            raise CheckFailed(f"the scores of the phrase alone: {_numbers(alone[:5])}", _numbers(scores[:5]))
    return f", {len(together)} for given phrases"


def _renumbered(found: Detections) -> Detections:
    return Detections(101, found.width, found.height, found.boxes_xyxy, found.scores, found.category_ids)


def _numbers(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values.tolist()) + "]"

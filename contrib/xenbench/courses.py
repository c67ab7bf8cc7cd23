"""The courses: which commands are run one after another, and which of them count. Each leaves the host as it was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .works import (
    AGENT,
    MANY,
    NO_AGENT,
    NOTHING_TO_DO,
    PLAIN_ATTACH,
    RELEASE,
    STATUS,
    VERIFIED_ATTACH,
    VERSION,
    VIRSH,
    XL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A device and the domain that it goes to; `driver` is dom0's, empty if it has none."""

    device: str
    domain: str
    driver: str

    @property
    def words(self) -> tuple[str, str, str]:
        """As the scripts take them."""
        return (self.domain, self.device, self.driver)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command; its time counts for `work`, done `by` whom, unless that is empty.

    `status` is the exit status that it has to end with. `reports`: it measures itself, and prints JSON.
    """

    argv: tuple[str, ...]
    work: str = ""
    by: str = ""
    status: int = 0
    reports: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Commands in their order; `undo` makes all of it undone, whatever was cut off, and does nothing if nothing is.

    `with_agent`: the agent has to run meanwhile; without it, none may.
    """

    name: str
    steps: tuple[Step, ...]
    undo: tuple[str, ...] = ()
    with_agent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a host has to be measured with: `given` in pairs, the first of which goes alone where one is enough.

    `folder` is where this package and the policies are on that host. `asks_guest`: the guest has a root shell on its
    console. `cede` is how cede is called to do its work itself.
    """

    given: tuple[Given, ...]
    folder: str
    asks_guest: bool = True
    cede: tuple[str, ...] = ("cede",)

    @property
    def first(self) -> Given:
        """The device that goes alone."""
        return self.given[0]

    def script(self, name: str, *words: str) -> tuple[str, ...]:
        """How a script of this package is run."""
        return ("bash", f"{self.folder}/xenbench/scripts/{name}.sh", *words)

    def warm(self, what: str, rounds: int) -> tuple[str, ...]:
        """How `warm` is run, which measures inside cede."""
        words = ("python3", "-P", f"{self.folder}/xenbench/warm.py", what, str(rounds))
        return (*words, self.policy("verified"), "bench0", *self.first.words)

    def policy(self, name: str) -> str:
        """Where the policy of that name is."""
        return f"{self.folder}/{name}.yaml"


def policy_text(given: Sequence[Given], guest: str, more: str = "") -> str:
    """A policy that gives those devices to their domains, and asks the guest as `guest` says."""
    lines = ["version: 1", "devices:" if given else "devices: {}"]
    lines += [
        f'  bench{n}: {{match: {{address: "{each.device}"}}}}' for n, each in enumerate(given)
    ]
    lines.append("assignments:" if given else "assignments: []")
    for n, each in enumerate(given):
        wanted = f"device: bench{n}, domain: {each.domain}, verify: {{guest: {guest}}}{more}"
        lines.append(f"  - {{{wanted}}}")
    return "\n".join(lines) + "\n"


def policies(setting: Setting) -> dict[str, str]:
    """The policies that the courses name, by name."""
    alone = (setting.first,)
    return {
        "verified": policy_text(alone, "console"),
        "plain": policy_text(alone, "none"),
        "many": policy_text(setting.given, "console" if setting.asks_guest else "none"),
        "wanted": policy_text(alone, "console", ", on_drift: restore"),
        "nothing": policy_text((), "none"),
    }


def courses(setting: Setting, *, agent: bool) -> tuple[Course, ...]:
    """Return all of them; those that ask the agent only if there is one."""
    ways = [(NO_AGENT, setting.cede, False)]
    if agent:
        ways.append((AGENT, ("cede",), True))
    found = [
        course for by, cede, asked in ways for course in _of_cede(setting, by, cede, asked=asked)
    ]
    return (*found, *_of_others(setting))


def _of_cede(setting: Setting, by: str, cede: tuple[str, ...], *, asked: bool) -> Iterator[Course]:
    undo = setting.script("give_back", *setting.first.words)

    def apply(policy: str, work: str) -> Step:
        return Step(argv=(*cede, "apply", "--yes", "-f", setting.policy(policy)), work=work, by=by)

    def release(policy: str, work: str = "") -> Step:
        argv = (*cede, "release", "bench0", "-f", setting.policy(policy))
        return Step(argv=argv, work=work, by=by if work else "")

    def course(name: str, *steps: Step, undo: tuple[str, ...] = undo) -> Course:
        return Course(name=f"{name}, {by}", steps=steps, undo=undo, with_agent=asked)

    if setting.asks_guest:
        verified = (apply("verified", VERIFIED_ATTACH), release("verified", RELEASE))
        yield course("verified", *verified)
    status = Step(argv=(*cede, "status", "-f", setting.policy("plain")), work=STATUS, by=by)
    plain = (apply("plain", PLAIN_ATTACH), apply("plain", NOTHING_TO_DO), status)
    # where no guest is asked, this is the release that counts
    yield course("plain", *plain, release("plain", "" if setting.asks_guest else RELEASE))
    if len(setting.given) > 1:
        now = setting.policy("now")
        back = (*cede, "apply", "--yes", "--prune", "-f", now)
        yield course(
            "many",
            Step(argv=("cp", setting.policy("many"), now)),
            apply("now", MANY),
            Step(argv=("cp", setting.policy("nothing"), now)),
            Step(argv=back),
            undo=setting.script("give_back", *_all_words(setting)),
        )
    version = Step(argv=(*cede, "--version"), work=VERSION, by=by)
    yield course("version", version, undo=())


def _of_others(setting: Setting) -> Iterator[Course]:
    words = setting.first.words
    undo = setting.script("give_back", *words)

    def step(script: str, work: str = "", by: str = VIRSH, *more: str) -> Step:
        return Step(argv=setting.script(script, *(more or words)), work=work, by=by if work else "")

    def course(name: str, *steps: Step, undo: tuple[str, ...] = undo) -> Course:
        return Course(name=name, steps=steps, undo=undo)

    if setting.asks_guest:
        attach = step("attach_virsh", VERIFIED_ATTACH)
        yield course("verified, virsh", attach, step("release_virsh", RELEASE))
        yield course("verified, xl", step("attach_xl", VERIFIED_ATTACH, XL), step("release_xl"))
    looked = (
        Step(argv=setting.script("dumpxml_all"), work=NOTHING_TO_DO, by=VIRSH),
        Step(argv=setting.script("list_virsh"), work=STATUS, by=VIRSH),
    )
    release = step("release_virsh", "" if setting.asks_guest else RELEASE)
    yield course("plain, virsh", step("attach_plain_virsh", PLAIN_ATTACH), *looked, release)
    if len(setting.given) > 1:
        script = "attach_virsh.sh" if setting.asks_guest else "attach_plain_virsh.sh"
        everything = _all_words(setting)
        one_by_one = step("each", MANY, VIRSH, script, *everything)
        yield course("many, virsh", one_by_one, undo=setting.script("give_back", *everything))
    virsh = Step(argv=("virsh", "--version"), work=VERSION, by=VIRSH)
    yield course("version, virsh", virsh, undo=())


def breakdown(setting: Setting, rounds: int = 2) -> Course:
    """What a verified attach is made of: first as a command, then in a process that has imported everything."""
    step = Step(argv=setting.warm("attach", rounds), reports=True)
    undo = setting.script("give_back", *setting.first.words)
    return Course(name="breakdown", steps=(step,), undo=undo)


def behind_its_back(setting: Setting) -> Course:
    """What another tool takes away, put back by the agent, which follows /etc/cede/policy.yaml."""
    argv = setting.script(
        "behind_its_back", *setting.first.words, "bench0", setting.policy("wanted"), setting.policy("nothing")
    )  # fmt: skip
    undo = setting.script("give_back", *setting.first.words)
    return Course(
        name="behind its back", steps=(Step(argv=argv, reports=True),), undo=undo, with_agent=True
    )


def in_turn(courses: Sequence[Course], round_: int) -> tuple[Course, ...]:
    """Order the courses for a round: another one is first in each; those that need the agent come last, together."""
    alone = [course for course in courses if not course.with_agent]
    beside = [course for course in courses if course.with_agent]
    return (*_rotated(alone, round_), *_rotated(beside, round_))


def _rotated(courses: list[Course], by: int) -> list[Course]:
    if not courses:
        return []
    first = by % len(courses)
    return courses[first:] + courses[:first]


def _all_words(setting: Setting) -> tuple[str, ...]:
    return tuple(word for each in setting.given for word in each.words)


def as_json(course: Course) -> dict[str, Any]:
    """A course as `runner` reads it."""
    return {
        "name": course.name,
        "undo": list(course.undo),
        "with_agent": course.with_agent,
        "steps": [
            {
                "argv": list(step.argv),
                "work": step.work,
                "by": step.by,
                "status": step.status,
                "reports": step.reports,
            }
            for step in course.steps
        ],
    }


def from_json(read: dict[str, Any]) -> Course:
    """The course of what `as_json` made."""
    steps = [Step(**{**step, "argv": tuple(step["argv"])}) for step in read["steps"]]
    return Course(**{**read, "steps": tuple(steps), "undo": tuple(read["undo"])})

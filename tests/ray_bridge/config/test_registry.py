"""Tables of classes that a spec may name: what may be registered, and which classes of a module can be."""

from types import ModuleType

import pytest

from bridge_common.errors import UserError
from ray_bridge.config.registry import Entry, Registry, Setting, registry_of, settings_of


def registry() -> Registry:
    return Registry("task", ("name", "score"))


def module_of(name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    exec(source, vars(module))
    return module


CLASSES = '''
class Long:
    """Adds numbers. Slowly.

    And more.
    """
    name, score = "long", None

class Silent:
    name, score = "silent", None

class Half:
    name = "half"

instance = Long()
'''


def test_entries_keep_their_order_and_may_be_registered_again() -> None:
    table = registry()
    table.register("b", "my:B", "the second letter")
    table.register("a", "my:A", "the first letter")
    table.register("b", "my:B", "the second letter, again")
    assert table.entries() == (
        Entry(name="b", target="my:B", meaning="the second letter, again"),
        Entry(name="a", target="my:A", meaning="the first letter"),
    )


@pytest.mark.parametrize(("name", "target"), [("a", "my.A"), ("a:b", "my:A"), ("a:b", "my.A")])
def test_a_name_has_no_colon_and_a_class_has_one(name: str, target: str) -> None:
    with pytest.raises(UserError, match=f"task '{name}': register a name without a colon, for a class as MODULE:CLASS"):
        registry().register(name, target, "a letter")


def test_a_name_stands_for_one_class() -> None:
    table = registry()
    table.register("a", "my:A", "the first letter")
    with pytest.raises(UserError, match="task 'a' is my:A already: register my:B under another name"):
        table.register("a", "my:B", "the second letter")


def test_the_classes_of_a_module_are_those_with_the_interface_that_it_defines_and_that_have_no_name_yet() -> None:
    lab = module_of("lab", CLASSES)
    table = registry()
    assert table.classes_in(lab) == (
        Entry(name="lab:Long", target="lab:Long", meaning="Adds numbers. Slowly"),
        Entry(name="lab:Silent", target="lab:Silent", meaning=""),
    )
    table.register("long", "lab:Long", "adds")
    assert [entry.name for entry in table.classes_in(lab)] == ["lab:Silent"]


def test_classes_that_a_module_imports_are_its_own_only_if_they_are_of_the_same_package() -> None:
    package, other = module_of("lab", ""), module_of("laboratory", CLASSES)
    inner = module_of("lab.inner", CLASSES)
    vars(package).update(Long=inner.Long, Silent=other.Silent)
    assert [entry.target for entry in registry().classes_in(package)] == ["lab.inner:Long"]


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    table = registry()
    table.register("a", "my:A", "the first letter")
    table.register("b", "my:B", "the second letter")
    with pytest.raises(UserError, match="task='c': there are a, b; a class of your own is MODULE:CLASS"):
        table.check("c")


def test_a_class_that_lacks_a_part_of_the_interface_is_refused() -> None:
    with pytest.raises(UserError, match="task='json:JSONDecoder': the class lacks name, score; see docs"):
        registry().check("json:JSONDecoder")


def test_classes_of_the_package_have_no_settings_and_are_not_imported_for_them() -> None:
    table = registry()
    table.register("own", "ray_bridge.not_there:Absent", "nothing")
    assert table.check("own") == "own"
    assert table.settings("own") == ()
    assert settings_of("synthetic", "dit") == {}


def test_a_class_of_another_package_without_settings_has_none() -> None:
    table = Registry("bridge", ("decode",))
    assert table.settings("json:JSONDecoder") == ()


def test_each_field_has_a_table() -> None:
    assert (registry_of("task").field, registry_of("bridge").field) == ("task", "bridge")


def test_a_value_of_another_type_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^extra\.rank='many': input should be a valid integer"):
        Setting(name="rank", default=8, meaning="a test").read("many")

"""The closed list of words that may follow a number and leave it as it is: units, rates, and things that are counted.

No list of words that change a number (million, tripled, below zero, is wrong) is ever complete, so every word that is
not listed here is one. The things are those that GSM8K's solutions count most often.
"""

import re

_MEASURES = """
    mm cm m km millimeter millimetre centimeter centimetre meter metre kilometer kilometre in inch inches ft foot
    feet yd yard mile mi acre mg g kg milligram gram kilogram kilo oz ounce lb pound ton tonne ml l milliliter
    millilitre liter litre gallon quart pint cup teaspoon tablespoon degree celsius fahrenheit mph kmh kph watt
    calorie s sec second min minute h hr hour day week month year decade am pm night morning afternoon evening
    percent cent penny pennies nickel dime dollar buck euro usd eur pence point км м см кг руб
"""
_THINGS = """
    acorn adult alligator animal ant apartment app apple article artwork babies baby bag ball balloon banana bandage
    bar barrel basket basketball batch batches batteries battery bead beaker bean bear bee berries berry bike bill
    bird biscuit blanket block blueberries blueberry board boat bolt bone book bookmark bottle bouquet bowl box
    boxes boy bracelet branch branches brick brother brownie bucket bug building bulb bunnies bunny burger bus buses
    bush bushel bushes butterflies butterfly button cabbage cake calf call calves camera camper can candies candle
    candy cap car card carnation carrot carton case cat cattle chair character cherries cherry chicken child
    children chip chocolate circle clam class classes cloud clown coat coin color comic computer container cookie
    copies copy corn costume couch cow cracker crate crayon cricket cupcake customer daisies daisy day decoration
    dessert dish dishes doctor dog doll donut door doughnut download dress dresses drink driver driveway drop duck
    e-mail ear earring egg elephant email employee envelope episode eraser eye families family fan feather female
    firework fish flag flea flies flight floor flower fly flyer follower friend frog fruit game gemstone gift girl
    glass glasses glove gnome goal goat goldfish grandchild grandchildren grape group guest gumball guppies guppy
    hamburger hat hen hit hole home horse hotdog hotel house insect item jacket jar jelly jellybean jellyfish jewel
    job journal jump key kid kilowatt kitten lamb lap leaf leaves leg lego lemon lesson letter level light limb line
    lion lizard load loaf loaves log lollipop machine magazine male man mango mangoes marble mark marker marshmallow
    match matches matchstick meal meatball medal member men message mice minnow mint mistake monkey mouse movie
    muffin mug mushroom nail napkin necklace newspaper note notebook novel nut object onion orange outfit owl oyster
    pack package packet page painting pancake panda paper parent part passenger pastries pastry patient peach
    peaches peanut pear pebble pen pencil penguin people pepper person persons peso pet petal phone photo picture
    pie piece pig pill pillow pin pizza place plane plank plant plate player plum poodle portion portrait poster
    potato potatoes present problem pumpkin pupil puppies puppy push-up puzzle question rabbit racer rat ring robot
    rock roll room rose round row runner sack sandwich sandwiches sausage scarf scarves scoop seashell seat section
    seed serving session shark sheep sheet shelf shell shelves ship shirt shoe shot show side singer sister skip
    slice snack snail snake sock soda song space spider spoke spoon spot stair stamp star steak step stick sticker
    stitch stitches stone stories story stranger straw strawberries strawberry string stripe student sundae
    sunflower surfer sweater sweet t-shirt table tadpole task teacher team teeth tent text ticket tie tiger tile
    time tin tire tissue toad token tomato tomatoes tooth toothbrush toothbrushes touchdown towel toy train tray
    tree trip truck tub tube tulip turkey turn turtle unit vacation vase vegetable vehicle video view visitor
    volunteer vote voter wall watch watermelon whale wheel whisker widget win window wing woman women word worker
    worm x-ray yo-yo
"""
_STUFF = """
    bread butter cement cereal cheese clothes clothing coal coffee concrete cream detergent dirt fabric feed fence
    fertilizer fiber flour food fries frosting fruit fuel gas gasoline gold grain gravel gum hay honey ice jam juice
    kibble laundry lemonade luggage lumber mail meat milk mulch oil paint pasta protein rain ribbon rice salt sand
    silver sleep soda soil soup sugar syrup tape tea water wheat wine wood wool yarn
"""
_BETWEEN = """
    a all an the of them per each every in us total altogether left remaining more extra additional old long tall wide
    high deep away apart new red blue green white black yellow pink purple
    older younger longer shorter taller farther further heavier lighter cheaper large small different wooden male female
"""
# The script needs no space between; no character here is a numeral or a multiplier, as 万 or 만 are.
_EAST_ASIAN = """
    元 円 圆 块 個 个 只 人 名 天 年 月 日 岁 歳 本 枚 匹 台 张 張 条 杯 瓶 盒 支 米
    公里 分 分钟 秒 小时 時間 克 公斤 美元 美金 度 원 명 개 시간 분 달러
"""

_WORDS = {
    form
    for word in f"{_MEASURES} {_THINGS} {_STUFF} {_BETWEEN}".split()
    for form in ((word,) if len(word) == 1 else (word, f"{word}s"))
} | {"yo-yos", "L"}
_BEFORE_UNIT = re.compile(r"\b(?:square|cubic|sq|cu) (?=\w)|\btimes as (?:many|much)\b")
_POWER = re.compile(  # of a length
    r"\b([mck]?m|in|inch(?:es)?|ft|foot|feet|yd|yards?|mi|miles?|(?:centi|kilo)?met(?:er|re)s?)(?:\^\{?[23]\}?|[²³])(?!\w)"
)
_SEPARATOR = re.compile(r"\s*/\s*|\s+")

EAST_ASIAN_UNIT = "|".join(sorted(_EAST_ASIAN.split(), key=len, reverse=True))
"""Pattern of a unit of a script that puts no space before it."""


def is_unit(words: str) -> bool:
    """Return whether words after a number are a unit, a rate, or what is counted: `eggs a day`, `km/h`, `T-shirts`."""
    words = _POWER.sub(r"\1", words)
    written = [word if len(word) == 1 else word.casefold() for word in _SEPARATOR.split(_BEFORE_UNIT.sub("", words))]
    parts = [part for word in written if word for part in ((word,) if word in _WORDS else word.split("-"))]
    return all(part in _WORDS for part in parts)

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
    adult animal ant apartment apple article baby babies bag ball balloon banana bar barrel basket basketball batch
    batches battery batteries bead bean bear bee berry berries bike bill bird blanket block blueberry blueberries
    board boat bone book bookmark bottle bouquet bowl box boxes boy bracelet brick brownie bucket bug bulb burger
    bus buses bushel butterfly butterflies button cabbage cake calf call calves camera can candle candy candies cap
    car card carrot carton case cat cattle chair cherry cherries chicken child children chip chocolate clam class
    classes clown coin color comic cookie corn costume couch cow cracker crate crayon cupcake customer daisy daisies
    day doctor dog doll donut door doughnut dress dresses drink driver drop duck earring egg elephant email e-mail
    employee envelope episode eraser family families fan feather fish flag flight floor flower fly flies follower
    friend frog fruit game girl glass glasses glove goal goat grape group guest guppy guppies hat hen hole home
    horse hotdog house hotel insect item jacket jar jelly jellybean job journal key kid kitten lamb lap leaf leaves
    leg lego lemon lesson letter light line lion lizard loaf loaves lollipop machine magazine man mango mangoes
    marble mark marker marshmallow match matches meal medal member men message mice minnow mint monkey mouse movie
    muffin mug mushroom nail napkin necklace newspaper note notebook nut onion orange owl package packet page
    painting pancake panda paper parent part passenger patient peach peaches peanut pear pen pencil penguin people
    pepper person persons pet petal phone photo picture pie piece pig pill pillow pin pizza place plane plank plant
    plate player poster potato potatoes present problem pumpkin pupil puppy puppies puzzle question rabbit ring
    robot rock roll room rose round row runner sack sandwich sandwiches scoop seashell seat section seed serving
    sheep sheet shell ship shirt shoe shot show sister slice snack snail snake sock soda song spider spoon spot
    stair stamp star step stick sticker stitch stitches stone story stories stranger strawberry strawberries string
    stripe student sundae sweater sweet table task teacher team text ticket tie tiger tile time tire toy train tree
    trip truck tulip turkey turtle t-shirt unit vacation vase vehicle video view visitor volunteer vote wall watch
    watermelon wheel window woman women word worker worm x-ray yo-yo
"""
_STUFF = """
    bread butter cereal cement cheese coal coffee concrete cream dirt fabric fertilizer flour food fruit
    gas gasoline gold
    grain gravel hay honey ice jam juice lemonade lumber meat milk mulch oil paint pasta rice salt sand silver soda soil
    soup sugar syrup tea water wheat wine wood wool yarn
"""
_BETWEEN = """
    a all an the of them per each every in us total altogether left remaining more extra additional old long tall wide
    high deep away apart new red blue green white black yellow pink purple
    older younger longer shorter taller farther further heavier lighter
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

"""How tests use a page without a browser."""

import html
import json
import re


def response(page):
    """What the button calls."""
    return next(function.fn for function in page.fns.values() if function.api_name == "run")


def press(page, *texts):
    """What stands on the page after its button was pressed: the answer, and the HTML of the attention."""
    *_, (answer, attention) = response(page)(*texts)
    return answer, attention


def components(page, kind):
    return [block for block in page.blocks.values() if type(block) is kind]


def shown_page(attention):
    """The page inside the frame."""
    return html.unescape(re.fullmatch(r'<iframe [^>]* srcdoc="([^"]*)"></iframe>', attention, re.DOTALL)[1])


def shown_texts(attention):
    """What was read and written, by what the page inside the frame calls it, as it is written in HTML."""
    return dict(re.findall(r"<b>([^<]*)</b> <bdi>(.*?)</bdi>", shown_page(attention), re.DOTALL))


def shown_maps(attention):
    """Kind of map -> what the page inside the frame knows of it."""
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', shown_page(attention), re.DOTALL)[1]
    return {one["kind"]: one for one in json.loads(data)}

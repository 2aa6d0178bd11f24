"""One-line summaries in the style of an agenda: when, and how much money, with all numbers in digits.

Each clause with a date, a time or an amount of money becomes an item, in the order of the text; other clauses are left
out, and so are a clause's details that do not tell what the item is about. 회의는 삼월 십오일 오후 두 시 반에 시작해요.
그리고 회의에 스무 명이 참석했어요. 그리고 다섯 시에 민수 씨와 약속이 있어요. has the summary
회의: 3월 15일 오후 2시 30분 / 민수 씨와 약속: 5시.
"""

from .grammar import Sentence, fill

SEPARATOR = " / "

ITEMS: dict[str, str] = {
    # meeting
    "{event}(은/는) {date} {time}에 시작해요.": "{event}: {date} {time}",
    "{date}(에) {place}에서 {person} 씨를 만나요.": "{person} 씨와 만남: {date}",
    "{time}에 {person} 씨와 약속이 있어요.": "{person} 씨와 약속: {time}",
    "{time}에 시작한 {event}(은/는) {hours} 걸렸어요.": "{event} 시작: {time}",
    "{person} 씨가 {event} 시간을 {time}(으로/로) 바꿨어요.": "{event} 시간 변경: {time}",
    # reservation
    "{date} {time}에 {guests} 자리를 예약해 주세요.": "자리 예약: {date} {time}",
    "{date}부터 {days} 동안 호텔을 예약했어요.": "호텔 예약: {date}부터",
    "{person}(이라는/라는) 이름으로 {time}에 예약했어요.": "{person} 이름으로 예약: {time}",
    "{date} 예약을 {date2}(으로/로) 바꿔 주세요.": "예약 변경: {date}에서 {date2}(으로/로)",
    "예약금은 {money}(이에요/예요).": "예약금: {money}",
    # shopping
    "{groceries}에 {money}(이에요/예요).": "{groceries}: {money}",
    "{clothes}(을/를) {money}에 샀어요.": "{clothes}: {money}",
    "{garment}(은/는) {percent} 할인해서 {price}(이에요/예요).": "{garment} 할인가: {price}",
    "{person} 씨는 {past}(에) {shop}에서 {money}(을/를) 썼어요.": "{person} 씨 지출: {past} {money}",
    # travel
    "{date}(에) {destination}(으로/로) 떠나요.": "{destination}(으로/로) 출발: {date}",
    "{destination}(으로/로) 가는 {transport}(은/는) {time}에 출발해요.": "{destination}행 {transport}: {time}",
    "{destination} 여행에 {sum}(이/가) 들었어요.": "{destination} 여행비: {sum}",
    # delivery
    "{shipment}(은/는) {date}까지 도착해요.": "{shipment} 도착: {date}까지",
    "{past}(에) 보낸 {shipment}(이/가) {city}에 도착했어요.": "{shipment} 발송: {past}",
    "배송비는 {money}(이에요/예요).": "배송비: {money}",
    # school
    "{subject} 시험은 {date} {time}에 있어요.": "{subject} 시험: {date} {time}",
    "{subject} 숙제를 {date}까지 내야 해요.": "{subject} 숙제: {date}까지",
    # cafe
    "{cakes} 값은 {price}(이에요/예요).": "{cakes}: {price}",
    "카페는 {opening}에 문을 열어요.": "카페 여는 시간: {opening}",
    # hospital
    "{date} {time}에 {clinic} 진료가 있어요.": "{clinic} 진료: {date} {time}",
    "진료비는 {money}(이에요/예요).": "진료비: {money}",
    "{person} 씨는 {past}(에) {city}에 있는 병원에 입원했어요.": "{person} 씨 입원: {past}",
    "{time}에 동물 병원에 {pets}(이/가) 왔어요.": "동물 병원: {time}",
    # bank
    "통장에 {sum}(을/를) 넣었어요.": "통장 입금: {sum}",
    "{person} 씨에게 {past}(에) {sum}(을/를) 송금했어요.": "{person} 씨에게 송금: {past} {sum}",
    "대출금 {sum}(을/를) {date}까지 갚아야 해요.": "대출금 상환: {date}까지 {sum}",
    "매달 {sum}(을/를) {months} 동안 저축했어요.": "저축: 매달 {sum}",
    "{past}(에) {bill} 요금 {money}(을/를) 냈어요.": "{bill} 요금: {past} {money}",
    "은행은 {closing}에 문을 닫아요.": "은행 닫는 시간: {closing}",
    # sports
    "{sport} 경기는 {date} {time}에 시작해요.": "{sport} 경기: {date} {time}",
    "{sport} 경기 {tickets}(을/를) {money}에 샀어요.": "{sport} 경기 {tickets}: {money}",
}
"""The item that a clause of each template becomes; templates without a date, a time or an amount have none."""


def summary(sentence: Sentence) -> str:
    """The summary of the text, empty if no clause has a date, a time or an amount of money."""
    return SEPARATOR.join(
        fill(ITEMS[fact.template.ko], fact.slots, "digits") for fact in sentence.facts if fact.template.ko in ITEMS
    )

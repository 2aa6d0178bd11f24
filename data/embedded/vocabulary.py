"""The words of the embedded language: names, places and nouns, each with its one English rendering."""

from typing import NamedTuple


class Word(NamedTuple):
    """A Korean word and its English."""

    ko: str
    en: str


class Noun(NamedTuple):
    """A noun that is counted: its counter, and the English of one unit ("cup of coffee" for 커피 with 잔).

    `ko` is empty where the counter is itself what is counted (세 시간). `most` is the largest count that is drawn.
    """

    ko: str
    en: str
    counter: str
    most: int


COUNTERS = {
    **dict.fromkeys(("개", "명", "마리", "권", "병", "잔", "장", "대", "송이", "그루", "켤레", "벌", "조각"), "native"),
    **dict.fromkeys(("자루", "통", "알", "번", "살", "시간", "골", "바퀴", "그릇"), "native"),
    **dict.fromkeys(("분", "일", "개월", "점", "킬로미터", "퍼센트", "인분"), "sino"),
}
"""The numerals that each counter takes: native Korean (세 개) or Sino-Korean (삼 분)."""

NATIVE_DAYS = {1: "하루", 2: "이틀", 3: "사흘", 4: "나흘", 10: "열흘"}
"""Numbers of days that have a word of their own in everyday use."""


def _words(pairs: dict[str, str]) -> tuple[Word, ...]:
    return tuple(Word(ko, en) for ko, en in pairs.items())


def _nouns(counter: str, most: int, pairs: dict[str, str]) -> tuple[Noun, ...]:
    return tuple(Noun(ko, en, counter, most) for ko, en in pairs.items())


SURNAMES = _words(
    {"김": "Kim", "이": "Lee", "박": "Park", "최": "Choi", "정": "Jung", "강": "Kang", "조": "Cho", "윤": "Yoon"}
    | {"장": "Jang", "임": "Lim", "한": "Han", "오": "Oh", "서": "Seo", "신": "Shin", "권": "Kwon", "황": "Hwang"}
)
GIVEN_NAMES = _words(
    {"민수": "Minsu", "지훈": "Jihoon", "서연": "Seoyeon", "수진": "Sujin", "현우": "Hyunwoo", "유진": "Yujin"}
    | {"하늘": "Haneul", "도윤": "Doyoon", "민지": "Minji", "성민": "Sungmin", "지영": "Jiyoung", "준호": "Junho"}
    | {"수빈": "Subin", "태현": "Taehyun", "보람": "Boram", "예린": "Yerin", "동현": "Donghyun", "나영": "Nayoung"}
    | {"상철": "Sangchul", "미경": "Mikyung", "우진": "Woojin", "소희": "Sohee", "재석": "Jaeseok", "한별": "Hanbyul"}
)

CITIES = _words(
    {"서울": "Seoul", "부산": "Busan", "대구": "Daegu", "인천": "Incheon", "광주": "Gwangju", "대전": "Daejeon"}
    | {"울산": "Ulsan", "제주": "Jeju", "강릉": "Gangneung", "전주": "Jeonju", "경주": "Gyeongju", "수원": "Suwon"}
    | {"춘천": "Chuncheon", "여수": "Yeosu", "속초": "Sokcho", "안동": "Andong", "통영": "Tongyeong", "목포": "Mokpo"}
)
CITIES_ABROAD = _words(
    {"파리": "Paris", "런던": "London", "도쿄": "Tokyo", "뉴욕": "New York", "방콕": "Bangkok", "하노이": "Hanoi"}
    | {"베를린": "Berlin", "시드니": "Sydney"}
)
PLACES = _words(
    {"강남역": "Gangnam Station", "서울역": "Seoul Station", "시청역": "City Hall Station", "잠실역": "Jamsil Station"}
    | {"부산역": "Busan Station", "남대문시장": "Namdaemun Market", "광장시장": "Gwangjang Market"}
    | {"경복궁": "Gyeongbokgung Palace", "인천공항": "Incheon Airport", "김포공항": "Gimpo Airport"}
    | {"여의도공원": "Yeouido Park", "올림픽공원": "Olympic Park", "한국대학교": "Hankuk University"}
    | {"해운대": "Haeundae Beach", "남산타워": "Namsan Tower", "한강공원": "Hangang Park"}
)

EVENTS = _words(
    {"회의": "meeting", "면접": "interview", "발표": "presentation", "워크숍": "workshop", "세미나": "seminar"}
    | {"강연": "lecture", "간담회": "round table", "행사": "event"}
)
SHOPS = _words({"시장": "market", "마트": "supermarket", "백화점": "department store", "편의점": "convenience store"})
TRANSPORTS = _words({"기차": "train", "버스": "bus", "비행기": "plane", "배": "ship"})
GARMENTS = _words(
    {"코트": "coat", "재킷": "jacket", "원피스": "dress", "스웨터": "sweater", "가방": "bag", "시계": "watch"}
)
SHIPMENTS = _words({"소포": "parcel", "택배": "package", "편지": "letter", "가구": "furniture", "꽃다발": "bouquet"})
SUBJECTS = _words(
    {"수학": "math", "영어": "English", "과학": "science", "역사": "history", "음악": "music", "미술": "art"}
    | {"한국어": "Korean", "물리": "physics", "화학": "chemistry", "경제": "economics"}
)
CLINICS = _words(
    {"치과": "dental clinic", "안과": "eye clinic", "피부과": "skin clinic", "소아과": "children's clinic"}
)
BILLS = _words({"전기": "electricity", "수도": "water", "가스": "gas", "전화": "phone", "인터넷": "internet"})
SPORTS = _words(
    {"축구": "soccer", "야구": "baseball", "농구": "basketball", "배구": "volleyball", "테니스": "tennis"}
    | {"탁구": "table tennis", "배드민턴": "badminton"}
)

GROCERIES = (
    *_nouns("개", 30, {"사과": "apple", "오렌지": "orange", "복숭아": "peach", "달걀": "egg", "감자": "potato"}),
    *_nouns("개", 30, {"양파": "onion", "토마토": "tomato", "레몬": "lemon", "당근": "carrot"}),
    *_nouns("병", 12, {"물": "bottle of water", "와인": "bottle of wine", "간장": "bottle of soy sauce"}),
    *_nouns("마리", 12, {"생선": "fish", "닭": "chicken", "꽃게": "crab"}),
)
CLOTHES = (
    *_nouns("켤레", 10, {"양말": "pair of socks", "장갑": "pair of gloves", "운동화": "pair of sneakers"}),
    *_nouns("벌", 5, {"바지": "pair of pants", "정장": "suit", "한복": "hanbok"}),
    *_nouns("개", 5, {"모자": "hat", "우산": "umbrella", "목도리": "scarf"}),
    *_nouns("장", 10, {"티셔츠": "T-shirt", "수건": "towel", "손수건": "handkerchief"}),
)
DRINKS = (
    *_nouns("잔", 12, {"커피": "cup of coffee", "녹차": "cup of green tea", "홍차": "cup of black tea"}),
    *_nouns("잔", 12, {"코코아": "cup of cocoa", "주스": "glass of juice", "우유": "glass of milk"}),
    *_nouns("병", 12, {"콜라": "bottle of cola", "탄산수": "bottle of sparkling water"}),
)
CAKES = (
    *_nouns("조각", 8, {"케이크": "piece of cake", "피자": "slice of pizza"}),
    *_nouns(
        "개",
        12,
        {"샌드위치": "sandwich", "쿠키": "cookie", "도넛": "donut", "머핀": "muffin", "에그타르트": "egg tart"},
    ),
)
DISHES = (
    *_nouns("그릇", 8, {"비빔밥": "bowl of bibimbap", "냉면": "bowl of cold noodles", "국수": "bowl of noodles"}),
    *_nouns("인분", 8, {"불고기": "serving of bulgogi", "갈비": "serving of ribs"}),
)
BOOKS = (
    *_nouns("권", 15, {"책": "book", "소설": "novel", "잡지": "magazine", "만화책": "comic book"}),
    *_nouns("권", 15, {"사전": "dictionary", "시집": "poetry book"}),
)
STATIONERY = (
    *_nouns("자루", 24, {"연필": "pencil", "볼펜": "pen", "크레용": "crayon"}),
    *_nouns("개", 10, {"지우개": "eraser", "가위": "pair of scissors"}),
    *_nouns("권", 15, {"공책": "notebook"}),
    *_nouns("장", 50, {"색종이": "sheet of colored paper"}),
)
TREES = _nouns("그루", 40, {"나무": "tree", "소나무": "pine tree", "벚나무": "cherry tree", "사과나무": "apple tree"})
PETS = (
    *_nouns("마리", 9, {"강아지": "puppy", "고양이": "cat", "토끼": "rabbit", "햄스터": "hamster"}),
    *_nouns("마리", 9, {"앵무새": "parrot", "거북이": "turtle"}),
)
RENTALS = (
    *_nouns("대", 9, {"자전거": "bicycle", "자동차": "car", "오토바이": "motorcycle", "전동차": "electric car"}),
    *_nouns("개", 9, {"텐트": "tent", "구명조끼": "life jacket"}),
)
FLOWERS = _nouns(
    "송이", 60, {"장미": "rose", "튤립": "tulip", "백합": "lily", "국화": "chrysanthemum", "해바라기": "sunflower"}
)
PARCELS = (
    *_nouns("개", 20, {"상자": "box", "소포": "parcel", "선물": "gift"}),
    *_nouns("통", 30, {"편지": "letter"}),
    *_nouns("장", 50, {"엽서": "postcard", "사진": "photo"}),
)

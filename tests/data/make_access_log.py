#!/usr/bin/env python3
"""The program that wrote docs/examples/access.log: 2000 requests to a small shop in combined log format, always the same.

    python3 make_access_log.py > access.log
"""
import random

rng = random.Random(20250113)
clients = [f"203.0.113.{rng.randrange(1, 255)}" for _ in range(140)] + [f"2001:db8::{rng.randrange(1, 0xffff):x}" for _ in range(25)]
scanner = "198.51.100.23"
agents = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.2 Mobile/15E148 Safari/604.1",
    "curl/7.88.1",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
]
pages = ["/", "/products", "/products/17", "/products/42", "/products/108", "/cart", "/checkout", "/search?q=lamp",
         "/search?q=desk+chair", "/static/app.css", "/static/app.js", "/img/logo.svg", "/img/hero.webp", "/api/v1/stock/42",
         "/api/v1/stock/108", "/login", "/account/orders", "/robots.txt", "/favicon.ico", "/old-catalogue.pdf"]
weights = [14, 12, 7, 9, 5, 6, 3, 4, 3, 12, 12, 10, 8, 6, 5, 4, 3, 1, 4, 1]
probes = ["/wp-login.php", "/.env", "/phpmyadmin/", "/.git/config", "/cgi-bin/luci", "/etc/passwd", "/../../etc/passwd"]
months_day = "13/Jan/2025"

second = 6 * 3600
for _ in range(2000):
    second += rng.choice([0, 1, 2, 5, 9, 17, 31, 48, 60, 75])
    second = min(second, 86399)
    stamp = f"{months_day}:{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} +0000"
    if rng.random() < 0.035:
        print(f'{scanner} - - [{stamp}] "GET {rng.choice(probes)} HTTP/1.1" {rng.choice([404, 404, 403, 400])} {rng.randrange(150, 600)} "-" "Mozilla/5.0 zgrab/0.x"')
        continue
    page = rng.choices(pages, weights)[0]
    method = "POST" if page in ("/cart", "/checkout", "/login") and rng.random() < 0.6 else "GET"
    status, size = 200, rng.randrange(900, 48000)
    if page == "/old-catalogue.pdf":
        status, size = 410, 312
    elif page == "/checkout" and rng.random() < 0.12:
        status, size = 502, 497
    elif page.startswith("/static") and rng.random() < 0.4:
        status, size = 304, 0
    elif page == "/login" and rng.random() < 0.3:
        status, size = 401, 221
    elif rng.random() < 0.006:
        status, size = 500, 1033
    referrer = rng.choice(["-", "-", "https://shop.example/", "https://shop.example/products"])
    print(f'{rng.choice(clients)} - - [{stamp}] "{method} {page} HTTP/2.0" {status} {size} "{referrer}" "{rng.choice(agents)}"')

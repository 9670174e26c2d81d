//! The programs: what each needs, and a script that does something real with it. A script ends with 0 where the program works.

use super::compare::judge;
use super::install::Need;
use Verdict::{Differs, Same, SameAsJob};

/// One program and what is done with it.
pub(super) struct Program {
    /// The name of the row, of its test and in docs/programs.md.
    pub(super) name: &'static str,
    /// The memory limit of the job in MB; /work and /tmp are part of it where they are memory.
    pub(super) memory: u32,
    /// Whether a job gives the same result as the host.
    pub(super) verdict: Verdict,
    /// Programs or files, and the packages that have them.
    pub(super) needs: &'static [Need],
    /// Shell commands; standard error is joined with standard output.
    pub(super) script: &'static str,
}

/// The known result of a program in a job.
pub(super) enum Verdict {
    /// Exit code and output are those of the host.
    Same,
    /// The same, where the job is the ordinary user (`--user job`).
    SameAsJob,
    /// They are not, for this reason, which docs/programs.md gives in the same words.
    Differs(&'static str),
}

macro_rules! programs {
    ($list:ident $module:ident: $($name:ident: $memory:literal MB, $verdict:expr, needs $needs:tt $script:literal;)*) => {
        pub(super) static $list: &[Program] = &[$(Program {
            name: stringify!($name),
            memory: $memory,
            verdict: $verdict,
            needs: &$needs,
            script: $script,
        }),*];

        mod $module {
            $(
                #[test]
                fn $name() {
                    let row = super::$list.iter().find(|row| row.name == stringify!($name));
                    super::judge(row.unwrap(), concat!(module_path!(), "::", stringify!($name)));
                }
            )*
        }
    };
}

// One of each way in which programs meet the walls of a job, with small packages: a list for every run of the tests.
programs! { SHORT short:
    python3: 256 MB, Same, needs [("/usr/bin/python3", "python3"), ("/etc/services", "netbase")] r#"
/usr/bin/python3 - <<'EOF'
import ctypes, hashlib, mimetypes, multiprocessing, os, resource, shutil, socket, sqlite3, ssl, subprocess, tempfile, zoneinfo
print(hashlib.sha256(b'x').hexdigest(), sqlite3.connect(':memory:').execute('select 6*7').fetchone())
print(mimetypes.guess_type('a.docx'), mimetypes.guess_type('a.cpio'))
print(socket.getservbyname('http'), socket.getprotobyname('tcp'), socket.getservbyport(443, 'tcp'))
print(socket.gethostbyname('localhost'), bool(socket.gethostbyname(socket.gethostname())))
print({a[4] for a in socket.getaddrinfo('localhost', 'http', socket.AF_INET, socket.SOCK_STREAM)})
print('keep capabilities', ctypes.CDLL(None).prctl(8, 1, 0, 0, 0), 'set a name', ctypes.CDLL(None).prctl(15, b'x', 0, 0, 0))
with multiprocessing.Pool(2) as pool: print(sum(pool.map(abs, range(-100, 0))))
print(resource.prlimit(os.getpid(), resource.RLIMIT_CORE)[0] >= -1, ssl.create_default_context().cert_store_stats()['x509'] > 9)
with tempfile.NamedTemporaryFile() as f: shutil.copyfile('/etc/services', f.name); print(os.path.getsize(f.name) > 9)
print(subprocess.run(['cat'], input=b'through a pipe', capture_output=True).stdout, zoneinfo.ZoneInfo('Europe/Berlin'))
server = socket.create_server(('', 80)); socket.create_connection(('localhost', 80)); print(server.accept()[1][0])
EOF
"#;
    perl: 128 MB, Same, needs [("perl", "perl"), ("/etc/services", "netbase")] r#"
perl -MSocket -MPOSIX -MNet::Config -MTime::HiRes -MFile::Copy -MDigest::SHA=sha1_hex -e '
    print join(",", getservbyname("smtp", "tcp")), " ", scalar getprotobyname("udp"), " ", sha1_hex("x"), "\n";
    copy("/usr/bin/true", "copy") or die; print -s "copy" == -s "/usr/bin/true", " $NetConfig{test_exist}\n";
    $| = 1; pipe(my $r, my $w); if (!fork) { print $w "child\n"; close $w; exit 3 } close $w; print <$r>; wait; print $? >> 8, "\n";
    print inet_ntoa(inet_aton("localhost")), strftime(" %F\n", gmtime 0);'
"#;
    gcc: 256 MB, Same, needs [("gcc", "gcc"), ("/usr/include/stdio.h", "libc6-dev")] r#"
printf '#include <stdio.h>\n#include <math.h>\nint main(int n, char **a){printf("%%.3f\\n", sqrt(n));return 7;}\n' >a.c
gcc -O2 -Wall -o a a.c -lm; ./a 2 || echo "code $?"
gcc -O2 -static -o b a.c -lm; ./b 2 3 || echo "code $?"; ldd a | sed 's/(0x.*//'
"#;
    make: 128 MB, Same, needs [("make", "make")] r#"
printf 'all: a b c\n\t@cat a b c\na b c:\n\t@sleep 0.1; echo $@ >$@\n' >Makefile
make -j3 -s; make -n | head -1; make --version | head -1
"#;
    git: 256 MB, Same, needs [("git", "git")] r#"
git init -q -b main one; cd one; git config user.name n; git config user.email n@example.org
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
for i in 1 2 3; do echo $i >f; git add f; git commit -q -m "c $i"; done
git gc -q; git clone -q . ../two; git clone -q "file://$PWD" ../three; git -C ../two fsck 2>/dev/null; git -C ../three log --format='%H %s'
"#;
    php: 128 MB, Same, needs [("php", "php-cli")] r#"
php -r 'echo implode(" ", get_loaded_extensions()), "\n", hash("sha256", "x"), " ", php_ini_loaded_file(), "\n",
    getservbyname("http", "tcp"), " ", gethostbyname("localhost"), " ", date("c", 0), "\n";'
"#;
    nginx: 128 MB, Same, needs [("nginx", "nginx-light"), ("curl", "curl")] r#"
mkdir www run; head -c 300000 /dev/zero >www/zeros; echo '<p>hello' >www/index.html
cat >conf <<EOF
user root root; pid $PWD/run/pid; error_log stderr; worker_processes 2;
events {}
http { types { text/html html; } access_log off; sendfile on; client_body_temp_path run/b; proxy_temp_path run/p;
  fastcgi_temp_path run/f; uwsgi_temp_path run/u; scgi_temp_path run/s; server { listen 80; root $PWD/www; } }
EOF
nginx -p "$PWD" -e stderr -c "$PWD/conf" 2>err || { cat err; exit 1; }
curl -s -w '%{http_code} %{content_type}\n' http://localhost/; curl -s http://127.0.0.1/zeros | sha256sum
nginx -p "$PWD" -e stderr -c "$PWD/conf" -s quit 2>/dev/null; while [ -s run/pid ]; do sleep 0.05; done; echo stopped
"#;
    openssl: 128 MB, Same, needs [("openssl", "openssl")] r#"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout k -out c 2>/dev/null
openssl verify -CAfile c c; openssl x509 -in c -noout -subject
openssl s_server -accept 4433 -key k -cert c -www -quiet >/dev/null 2>&1 & server=$!
until echo | openssl s_client -connect localhost:4433 -CAfile c >s 2>/dev/null; do sleep 0.1; done
grep -a -m1 'Verify return code' s; kill $server; openssl version -d
"#;
    util_linux: 64 MB, Same, needs [("chrt", "util-linux"), ("script", "bsdutils")] r#"
lscpu | grep -E '^(Architecture|CPU\(s\)|On-line|Model name|NUMA node\(s\))' | tr -s ' '
prlimit --pid $$ --nofile=64; ulimit -n; chrt -b 0 true; chrt -i 0 true; nice -n 5 true; ionice -c 3 true; taskset -c 0 nproc
lsblk >/dev/null; setsid -w true; flock lock echo locked; script -qec 'test -t 1 && echo terminal' /dev/null | tr -d '\r'
findmnt -n -o TARGET /; getopt -o ab: -- -a -b c; mcookie | wc -c
"#;
    tar: 256 MB, Same, needs [("tar", "tar"), ("/usr/share/doc/tar", "tar")] r#"
mkdir d; echo text >d/f; ln -s f d/l; mkfifo d/p; chmod 640 d/f
tar cf foreign.tar --owner=ann:4711 --group=ann:4711 d; rm -r d
tar xf foreign.tar --no-same-owner; stat -c '%A %N' d/*; cp -a d copied; stat -c '%A %N' copied/*
cp -a --no-preserve=ownership /usr/share/doc/tar doc; diff -r doc /usr/share/doc/tar && echo equal
"#;
    man: 128 MB, Same, needs [("man", "man-db"), ("groff", "groff-base")] r#"
printf '.TH X 1\n.SH NAME\nx \\- a page\n.PP\nSee \\fBy\\fP(1).\n' >x.1
MANWIDTH=70 man -P cat ./x.1; MANPATH=/usr/share/man man -w nothing || echo "code $?"; manpath -q
"#;
    host_files: 64 MB, Same, needs [("/etc/services", "netbase"), ("hostname", "hostname")] r#"
. /etc/os-release; echo "$PRETTY_NAME"; cat /etc/debian_version
getent services http 443/tcp domain/udp; getent protocols tcp 17; getent rpc portmapper
getent hosts 127.0.0.1 | cut -c1-9; getent ahosts localhost | grep -m1 -o '^127.0.0.1'; getent ahosts 192.0.2.1 | head -1
getent passwd root | cut -d: -f1,3; test -n "$(getent hosts "$(hostname)")" && echo own; TZ=Asia/Tokyo date -d @0 +%F\ %T%z
"#;
}

// Larger programs, one at a time, for the tier of this name.
programs! { LONG long:
    pip: 256 MB, Same, needs [("/usr/bin/pip3", "python3-pip"), ("/usr/lib/python3/dist-packages/wheel", "python3-wheel"), ("/usr/lib/python3/dist-packages/setuptools", "python3-setuptools"), ("/usr/lib/python3.11/ensurepip", "python3-venv")] r#"
printf 'from setuptools import setup\nsetup(name="hello", version="1.0", py_modules=["hello"])\n' >setup.py; echo 'def main(): print("hello")' >hello.py
/usr/bin/pip3 wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w dist .; ls dist
/usr/bin/python3 -m venv env; env/bin/pip install -q --disable-pip-version-check --no-index --find-links dist hello
cd /; "$HOME/env/bin/python" -c 'import hello; hello.main()'; "$HOME/env/bin/pip" list --format=freeze --disable-pip-version-check | grep hello
"#;
    numpy: 512 MB, Same, needs [("/usr/lib/python3/dist-packages/numpy", "python3-numpy")] r#"
/usr/bin/python3 -c 'import numpy as n; a = n.arange(250000.).reshape(500, 500); print(n.linalg.norm(a @ a), n.fft.fft(a[0])[0])'
"#;
    node: 512 MB, Same, needs [("node", "nodejs")] r#"
cat >a.js <<'EOF'
const { Worker } = require('worker_threads'), fs = require('fs'), http = require('http'), dns = require('dns').promises;
(async () => {
  console.log(require('crypto').createHash('sha256').update('x').digest('hex'), require('os').availableParallelism() > 0);
  fs.copyFileSync(__filename, 'copy'); console.log(fs.readFileSync('copy').length == fs.readFileSync(__filename).length);
  console.log(await new Promise(r => new Worker('require("worker_threads").parentPort.postMessage(6*7)', { eval: true }).on('message', r)));
  console.log((await dns.lookup('localhost', 4)).address, (await dns.lookupService('127.0.0.1', 80)).service);
  const server = http.createServer((q, s) => fs.createReadStream('copy').pipe(s)).listen(80, '127.0.0.1', () =>
    http.get('http://127.0.0.1/', s => { let n = 0; s.on('data', d => n += d.length).on('end', () => { console.log(n); server.close(); }); }));
  console.log(require('child_process').execSync('echo child').toString().trim());
})();
EOF
node a.js
"#;
    npm: 512 MB, Same, needs [("npm", "npm")] r#"
mkdir tool app; cd tool; printf '#!/usr/bin/env node\nconsole.log("tool")\n' >cli.js; chmod +x cli.js
echo '{"name":"tool","version":"1.0.0","bin":{"tool":"cli.js"}}' >package.json; npm pack --silent
cd ../app; echo '{"name":"app","version":"1.0.0","scripts":{"go":"tool"}}' >package.json
npm install --silent --offline --no-audit --no-fund ../tool/tool-1.0.0.tgz; npm run --silent go; readlink node_modules/.bin/tool
"#;
    java: 512 MB, Same, needs [("java", "openjdk-17-jdk-headless")] r#"
cat >Hello.java <<'EOF'
import java.net.*; import java.nio.channels.*; import java.nio.file.*; import java.security.*; import java.util.stream.*;
public class Hello { public static void main(String[] a) throws Exception {
  System.out.println(new SecureRandom().nextInt() != 0 && InetAddress.getLocalHost().getAddress().length > 0);
  System.out.println(InetAddress.getByName("localhost").isLoopbackAddress() + " " + KeyStore.getDefaultType());
  System.out.println(javax.net.ssl.SSLContext.getDefault().getProtocol() + " " + java.util.TimeZone.getTimeZone("Europe/Berlin").getID());
  try (var from = FileChannel.open(Path.of("Hello.java")); var to = new java.io.FileOutputStream("copy").getChannel()) {
    System.out.println(from.transferTo(0, from.size(), to) == from.size()); }
  System.out.println(IntStream.range(0, 1000).parallel().sum() + " " + Runtime.version().feature());
  var server = new ServerSocket(80); new Socket("127.0.0.1", 80); System.out.println(server.accept().getLocalPort());
} }
EOF
java Hello.java
"#;
    javac: 512 MB, Same, needs [("javac", "openjdk-17-jdk-headless")] r#"
echo 'public class Hi { public static void main(String[] a) { System.out.println("hi " + a.length); } }' >Hi.java
javac Hi.java; java Hi 1 2; jar cfe hi.jar Hi Hi.class; java -XX:+UseSerialGC -jar hi.jar; jdeps hi.jar | tail -1 | tr -s ' '
"#;
    jshell: 512 MB, Same, needs [("jshell", "openjdk-17-jdk-headless")] r#"
printf 'int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\nSystem.out.println(f(20))\n/exit\n' | jshell -J-Duser.home="$HOME" -R-Duser.home="$HOME" -s - 2>/dev/null
"#;
    keytool: 512 MB, Same, needs [("keytool", "openjdk-17-jdk-headless")] r#"
keytool -genkeypair -alias a -keyalg EC -dname CN=a -keystore s -storepass secret -validity 9 2>/dev/null
keytool -list -keystore s -storepass secret | grep -c PrivateKeyEntry; keytool -list -cacerts -storepass changeit | grep -c trustedCertEntry
"#;
    mvn: 768 MB, Same, needs [("mvn", "maven")] r#"
echo '<project><modelVersion>4.0.0</modelVersion><groupId>g</groupId><artifactId>a</artifactId><version>1</version><packaging>pom</packaging></project>' >pom.xml
mvn -v >v; head -1 v | sed 's/\x1b[^m]*m//g'; mvn -o -B -q -Duser.home="$HOME" validate && echo valid
"#;
    cmake: 512 MB, Same, needs [("cmake", "cmake"), ("g++", "g++")] r#"
printf 'cmake_minimum_required(VERSION 3.10)\nproject(p CXX)\nfind_package(Threads REQUIRED)\nadd_executable(p p.cc)\ntarget_link_libraries(p Threads::Threads)\n' >CMakeLists.txt
printf '#include <thread>\n#include <iostream>\nint main(){int n=0;std::thread t([&]{n=42;});t.join();std::cout<<n<<std::endl;}\n' >p.cc
cmake -S . -B build | grep -vE ' [(]?[0-9.]+s[)]?$'; cmake --build build -j2 | tail -1; build/p
"#;
    ruby: 256 MB, Same, needs [("ruby", "ruby")] r#"
ruby -rsocket -ropenssl -rjson -retc -rtempfile -rdigest -e 'puts Digest::SHA256.hexdigest("x"), Addrinfo.tcp("localhost", "http").ip_port
    puts Etc.getpwuid ? :user : :none, JSON.dump([Socket.getservbyname("smtp")]), `echo child`, Tempfile.create { |f| f.puts 1; f.flush; File.size f }'
gem list -l | grep -c .
"#;
    r: 512 MB, Same, needs [("Rscript", "r-base-core")] r#"
Rscript -e 'print(summary(lm(dist ~ speed, cars))$r.squared); print(Sys.getenv("R_HOME")); print(nsl("localhost")); print(parallel::mclapply(1:2, sqrt, mc.cores=2))'
"#;
    postgres: 768 MB, SameAsJob, needs [("psql", "postgresql"), ("/usr/lib/postgresql/15/bin/initdb", "postgresql-15")] r#"
PATH=/usr/lib/postgresql/15/bin:$PATH; initdb -D db -U me -A trust --no-instructions | tail -2; db=$PWD/db
pg_ctl -D db -o "-k $db -c listen_addresses=localhost" -l log -w start >/dev/null || { cat log; exit 1; }
psql -h localhost -U me -At postgres -c 'create table t as select generate_series(1,1000) n' -c 'select sum(n) from t' -c 'show data_checksums'
pg_ctl -D db -m fast stop
"#;
    redis: 128 MB, Same, needs [("redis-server", "redis-server"), ("redis-cli", "redis-tools")] r#"
redis-server --port 7777 --daemonize yes --dir "$PWD" --logfile log --pidfile "$PWD/pid" --appendonly yes >/dev/null
until redis-cli -p 7777 ping; do sleep 0.1; done 2>/dev/null | tail -1
redis-cli -p 7777 set a b; redis-cli -p 7777 get a; redis-cli -p 7777 bgsave >/dev/null; redis-cli -p 7777 shutdown; test -s dump.rdb && echo saved
"#;
    memcached: 128 MB, Same, needs [("memcached", "memcached")] r#"
memcached -u root -p 11311 -l 127.0.0.1 2>/dev/null & server=$!
/usr/bin/python3 -c '
import socket, time
while True:
    try: s = socket.create_connection(("127.0.0.1", 11311)); break
    except OSError: time.sleep(0.1)
s.sendall(b"set k 0 0 1\r\nv\r\nget k\r\nquit\r\n"); print(s.makefile().read())'; kill $server
"#;
    mariadb: 768 MB, Same, needs [("mariadbd", "mariadb-server"), ("mariadb", "mariadb-client")] r#"
test "$(id -u)" -ne 0 || as=--user=root; mariadb-install-db --no-defaults ${as-} --datadir="$PWD/db" --auth-root-authentication-method=normal >/dev/null 2>&1 || echo "code $?"
mariadbd --no-defaults ${as-} --datadir="$PWD/db" --socket="$PWD/s" --pid-file="$PWD/p" --skip-networking --innodb-buffer-pool-size=16M >log 2>&1 &
n=0; until mariadb --no-defaults -S s -u root -Ne 'select 6*7' 2>/dev/null; do n=$((n + 1)); test $n -lt 300 || { cat log; exit 1; }; sleep 0.2; done
mariadb --no-defaults -S s -u root -Ne 'create table test.t (n int) engine=innodb; insert into test.t values (1), (2); select sum(n) from test.t; shutdown'; wait
"#;
    sqlite3: 128 MB, Same, needs [("sqlite3", "sqlite3")] r#"
sqlite3 db 'pragma journal_mode=wal; create table t(n); with recursive c(n) as (select 1 union all select n+1 from c where n<1000) insert into t select n from c; select sum(n) from t; vacuum; pragma integrity_check'
"#;
    ffmpeg: 512 MB, Same, needs [("ffmpeg", "ffmpeg")] r#"
ffmpeg -v error -f lavfi -i testsrc=d=1:s=64x64:r=5 -f lavfi -i sine=d=1 -c:v libx264 -threads 2 -c:a aac -bitexact a.mp4
ffmpeg -v error -i a.mp4 -map 0:v -f framemd5 - | tail -2; ffprobe -v error -show_entries stream=codec_name -of csv=p=0 a.mp4
"#;
    imagemagick: 256 MB, Same, needs [("/usr/bin/convert-im6.q16", "imagemagick"), ("/usr/share/fonts/truetype/dejavu", "fonts-dejavu-core")] r#"
convert-im6.q16 -size 120x40 xc:white -font DejaVu-Sans -pointsize 20 -draw 'text 5,25 "hello"' a.png; identify-im6.q16 -format '%w %h %#\n' a.png
identify-im6.q16 -list policy | grep -c Policy; convert-im6.q16 a.png -resize 50% a.jpg; identify-im6.q16 -format '%m %w\n' a.jpg
"#;
    chromium: 1536 MB, Same, needs [("chromium", "chromium"), ("fc-list", "fontconfig")] r#"
echo '<p id=a><script>a.textContent = 6 * 7 + " " + (crypto.randomUUID ? "secure" : "insecure")</script>' >a.html
chromium --headless --no-sandbox --disable-gpu --user-data-dir="$HOME/profile" --dump-dom "file://$PWD/a.html" 2>err || { tail -5 err; exit 1; }
"#;
    strace: 128 MB, Same, needs [("strace", "strace")] r#"
strace -f -o t -e trace=execve sh -c '/usr/bin/true; /usr/bin/true'; grep -c 'execve.*= 0' t; strace -c -o t true; tail -1 t | grep -o total
"#;
    gdb: 512 MB, Same, needs [("gdb", "gdb"), ("gcc", "gcc")] r#"
printf 'int f(int n){return 84/n;}\nint main(void){return f(0);}\n' >a.c; gcc -g -O0 -o a a.c
gdb -nx -batch -ex 'set debuginfod enabled off' -ex run -ex bt ./a 2>/dev/null | grep -E 'SIGFPE|^#'
"#;
    valgrind: 512 MB, Same, needs [("valgrind", "valgrind"), ("gcc", "gcc"), ("/usr/lib/debug/.build-id", "libc6-dbg")] r#"
printf '#include <stdlib.h>\nint main(void){volatile char *p=malloc(9);p[0]=1;return 0;}\n' >a.c; gcc -g -O0 -o a a.c
valgrind --error-exitcode=3 --leak-check=full ./a 2>v && code=0 || code=$?; echo "code $code"; grep -E 'definitely lost|ERROR SUMMARY' v | sed 's/==[0-9]*==//'
"#;
    curl: 128 MB, Same, needs [("curl", "curl"), ("/usr/bin/python3", "python3")] r#"
echo content >file; /usr/bin/python3 -m http.server 80 --bind 127.0.0.1 >/dev/null 2>&1 & server=$!
until curl -s http://localhost/file; do sleep 0.1; done; curl -sS -o saved -w '%{http_code} %{remote_ip}\n' http://127.0.0.1:80/file
cmp file saved; curl -sS http://no.such.name.invalid/ >/dev/null 2>&1 || echo "code $?"; kill $server
"#;
    wget: 128 MB, Same, needs [("wget", "wget"), ("/usr/bin/python3", "python3")] r#"
echo content >file; /usr/bin/python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 & server=$!
wget -q --tries=50 --retry-connrefused -O saved http://127.0.0.1:8000/file; cat saved; kill $server
"#;
    archives: 128 MB, Same, needs [("zip", "zip"), ("unzip", "unzip"), ("xz", "xz-utils"), ("zstd", "zstd"), ("rsync", "rsync"), ("cpio", "cpio")] r#"
mkdir d; seq 9999 >d/f; ln -s f d/l; zip -q -r -y a.zip d; xz -T2 -k d/f; zstd -q -T2 d/f; gzip -k d/f; bzip2 -k d/f
unzip -q a.zip -d u; readlink u/d/l; for c in 'xz -dc d/f.xz' 'zstd -qdc d/f.zst' 'gzip -dc d/f.gz' 'bzip2 -dc d/f.bz2'; do $c | cmp - d/f; done
rsync -a d/ r; diff -r d r; find d | sort | cpio -o --quiet | (mkdir c; cd c; cpio -id --quiet); diff -r d c/d && echo equal
"#;
    locale: 128 MB, Same, needs [("locale", "libc-bin"), ("/usr/lib/locale/C.utf8", "libc-bin")] r#"
locale; locale -a; LC_ALL=C.UTF-8 locale charmap; printf 'b\nä\na\n' | LC_ALL=C.UTF-8 sort | tr '\n' ' '; echo ä | iconv -t latin1 | od -An -tx1
for z in Europe/Berlin America/New_York; do TZ=$z date -d @1700000000; done; date -d @0 +%Z
"#;
    fc_list: 128 MB, Same, needs [("fc-list", "fontconfig"), ("/usr/share/fonts/truetype/dejavu", "fonts-dejavu-core")] r#"
fc-list : family | sort; fc-match sans; fc-match monospace; fc-match serif:bold family style
"#;
    ps: 128 MB, Same, needs [("ps", "procps"), ("pstree", "psmisc")] r#"
sleep 60 & s=$!; until ps -o comm= -p $s | grep -q sleep; do sleep 0.01; done; ps -o comm=,stat= -p $s | tr -d ' <N'; ps aux | grep -c '[s]leep 60'; pgrep -x sleep | wc -l; pstree -A $$ | grep -c sleep
top -bn1 | grep -c sleep; free | grep -c Mem; uptime >/dev/null; vmstat | tail -1 | wc -w; exec 2>&-; kill $s; wait $s || echo "code $?"; pidof sleep || echo none
"#;
    find: 128 MB, Same, needs [("find", "findutils"), ("file", "file")] r#"
find /usr/share/zoneinfo -type f | sort | sha256sum; find /usr/bin -perm -4000 | wc -l | grep -c .; find . -newermt 2000-01-01 -type f -size -9k
file -b /usr/share/zoneinfo/UTC script.sh; find /etc/ssl/certs -name '*.pem' -exec cat {} + | wc -l
"#;
    ssh_keygen: 128 MB, Same, needs [("ssh-keygen", "openssh-client")] r#"
ssh-keygen -q -t ed25519 -N '' -C c -f k; ssh-keygen -y -f k | cmp - k.pub && ssh-keygen -l -f k | tr -s ' ' | cut -d' ' -f1,3-
echo x | ssh-keygen -q -Y sign -f k -n n >s 2>/dev/null; echo "me $(cat k.pub)" >a; echo x | ssh-keygen -Y verify -f a -I me -n n -s s | cut -c1-20; ssh -G host 2>/dev/null | grep -c '^user '
"#;
    gpg: 256 MB, Same, needs [("gpg", "gnupg"), ("gpg-agent", "gpg-agent")] r#"
mkdir -m 700 g; export GNUPGHOME=$PWD/g; gpg -q --batch --passphrase '' --quick-gen-key me ed25519 sign 1y 2>/dev/null
echo text >f; gpg -q --batch -s f; gpg -q --batch --status-fd 1 -d f.gpg 2>/dev/null | grep -E '^text|GOODSIG' | cut -c1-17; gpgconf --kill all
"#;
    go: 1024 MB, Same, needs [("go", "golang-go")] r#"
printf 'package main\nimport ("fmt"; "io"; "net"; "os"; "runtime")\nfunc main() {\n f, _ := os.Open("a.go"); g, _ := os.Create("b"); n, e := io.Copy(g, f)\n a, _ := net.LookupHost("localhost"); p, _ := net.LookupPort("tcp", "http")\n fmt.Println(n > 0, e, len(a) > 0, p, runtime.NumCPU() > 0)\n}\n' >a.go
GOFLAGS=-mod=mod GO111MODULE=off go run a.go
"#;
    rustc: 1024 MB, Same, needs [("/usr/bin/rustc", "rustc"), ("gcc", "gcc")] r#"
echo 'fn main() { std::fs::copy("a.rs", "b.rs").unwrap(); println!("{}", (1..=10).product::<u64>() * std::thread::available_parallelism().map_or(0, |_| 1)) }' >a.rs
/usr/bin/rustc -O a.rs && ./a
"#;
    sbcl: 512 MB, Same, needs [("sbcl", "sbcl")] r#"
sbcl --noinform --non-interactive --eval '(print (reduce (function +) (loop for i below 1000 collect i)))'; echo
"#;
    lua: 64 MB, Same, needs [("lua5.4", "lua5.4")] r#"
lua5.4 -e 'print(_VERSION, os.tmpname() ~= nil, io.popen("echo child"):read())'
"#;
    lynx: 128 MB, Same, needs [("lynx", "lynx")] r#"
echo '<h1>Title</h1><a href=x.html>link</a>' >a.html; lynx -dump -nolist a.html; lynx -show_cfg | grep -c .
"#;
    aspell: 128 MB, Differs("its dictionaries are in /var/lib/aspell, and a job has nothing of the host's /var; name that directory in `filesystem.extraMounts`"), needs [("aspell", "aspell"), ("/usr/share/doc/aspell-en", "aspell-en")] r#"
echo 'a wrod' | aspell -d en list; aspell dicts | head -2
"#;
    xmllint: 128 MB, Same, needs [("xmllint", "libxml2-utils"), ("/usr/share/xml/docbook", "docbook-xml")] r#"
echo '<!DOCTYPE para PUBLIC "-//OASIS//DTD DocBook XML V4.5//EN" "http://www.oasis-open.org/docbook/xml/4.5/docbookx.dtd"><para>x</para>' >a.xml
xmllint --nonet --noout --valid a.xml && echo valid
"#;
    ghostscript: 256 MB, Same, needs [("gs", "ghostscript")] r#"
printf '/Helvetica findfont 20 scalefont setfont 20 20 moveto (hello) show showpage\n' >a.ps
gs -q -dBATCH -dNOPAUSE -sDEVICE=pnggray -r50 -sOutputFile=a.png a.ps; sha256sum <a.png; gs -q -dBATCH -dNOPAUSE -sDEVICE=pdfwrite -sOutputFile=a.pdf a.ps; head -c 8 a.pdf
"#;
    graphviz: 128 MB, Same, needs [("dot", "graphviz")] r#"
echo 'digraph { a -> b -> c; a -> c }' | dot -Tplain; echo 'digraph { a }' | dot -Tpng | head -c 4 | tail -c 3
"#;
    tar_owners: 64 MB, Differs("as uid 0 it sets the owners of the archive, and a job has one id; run it with `--user job`, or give tar `--no-same-owner`, and cp `--no-preserve=ownership`"), needs [("tar", "tar")] r#"
echo text >f; tar cf foreign.tar --owner=ann:4711 --group=ann:4711 f; tar xf foreign.tar
"#;
    tmux: 128 MB, Same, needs [("tmux", "tmux"), ("screen", "screen")] r#"
export TERM=xterm; tmux -L s -f /dev/null new-session -d -x 80 -y 24 'echo inside; exec sleep 60'
until tmux -L s capture-pane -p | grep inside; do sleep 0.1; done; tmux -L s kill-server; SCREENDIR=$PWD/sd; mkdir -m 700 sd; export SCREENDIR; screen -ls | head -1 | sed 's/ in .*//'
"#;
    inotify: 64 MB, Same, needs [("inotifywait", "inotify-tools")] r#"
mkdir d; (while [ ! -e done ]; do touch d/f; sleep 0.1; done) & inotifywait -q -e create,open,attrib --format %f d; touch done; wait
"#;
    zsh: 64 MB, Same, needs [("zsh", "zsh"), ("fish", "fish"), ("bash", "bash")] r#"
zsh -c 'autoload -U zmv; print -r -- ${(j:,:)${(s: :):-a b}}'; fish -c 'string upper fish'; bash -lc 'shopt -q login_shell && echo login'; dash -c 'echo dash'
"#;
    ping: 64 MB, Same, needs [("ping", "iputils-ping"), ("ip", "iproute2")] r#"
ping -c 1 -n 127.0.0.1 | grep -o '1 received'; ip -o link show lo | grep -o 'LOOPBACK,UP'
"#;
    ss: 64 MB, Differs("it asks for sockets by netlink (sock_diag), and jobs have only the netlink of routes; /proc/net/tcp has the same list"), needs [("ss", "iproute2")] r#"
ss -Hltn
"#;
    vim: 128 MB, Same, needs [("/usr/bin/vim.tiny", "vim-tiny"), ("ed", "ed")] r#"
echo one >f; vim.tiny -es -u NONE -c '%s/one/two/' -c wq f; cat f; printf '1s/two/three/\nw\nq\n' | ed -s f; cat f; echo b | sed s/b/c/ | awk '{print toupper($0)}'
"#;
    chromium_sandbox: 1536 MB, Differs("its own sandbox is a new user namespace, which jobs may not make; start it with `--no-sandbox`: the job is the sandbox"), needs [("chromium", "chromium")] r#"
echo '<p>x' >a.html; chromium --headless --disable-gpu --user-data-dir="$HOME/profile" --dump-dom "file://$PWD/a.html" 2>/dev/null
"#;
    bwrap: 64 MB, Differs("it makes a user namespace, which jobs may not"), needs [("bwrap", "bubblewrap")] r#"
bwrap --ro-bind / / --dev /dev echo nested
"#;
    dpkg_query: 128 MB, Differs("the database of packages is in /var/lib/dpkg, and a job has nothing of the host's /var"), needs [("dpkg-query", "dpkg")] r#"
dpkg-query -W -f='${Status}\n' dpkg
"#;
    i386: 256 MB, Differs("the system call filter of a job knows only x86-64; build it for x86-64"), needs [("gcc", "gcc"), ("/usr/share/doc/gcc-multilib", "gcc-multilib")] r#"
echo 'int main(void){return 0;}' >a.c; gcc -m32 -static -o a a.c; ./a && echo ran
"#;
}

BEGIN TRANSACTION;
CREATE TABLE attachment (
      source TEXT NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL, live INTEGER NOT NULL,
      config INTEGER NOT NULL, PRIMARY KEY (source, address, domain));
CREATE TABLE condition (
      source TEXT NOT NULL, subject TEXT NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
      message TEXT NOT NULL, since TEXT NOT NULL, next_try TEXT NOT NULL, domid INTEGER, boot TEXT NOT NULL DEFAULT '', PRIMARY KEY (source, subject, type));
CREATE TABLE deed (
      id INTEGER PRIMARY KEY, task INTEGER NOT NULL REFERENCES task (id) ON DELETE CASCADE, undoing INTEGER NOT NULL,
      step TEXT NOT NULL, text TEXT NOT NULL, before TEXT NOT NULL, begun TEXT NOT NULL, seconds REAL,
      outcome TEXT NOT NULL DEFAULT 'cut off', message TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '');
INSERT INTO "deed" VALUES(1,1,0,'{"action": "bind-to-pciback", "text": "bind 0000:01:00.0 from e1000e to pciback", "address": "0000:01:00.0", "driver": "e1000e", "unrestored": [], "goes_along": []}','bind 0000:01:00.0 from e1000e to pciback','{"identity": {"vendor": "8086", "device": "10d3", "subsystem": "8086:0000", "class_code": "020000"}, "serial": "00-11-22-33-44-55-66-77", "driver": "e1000e", "links": [{"name": "eth1", "mac": "52:54:00:00:00:01", "up": true, "carrier": false, "mtu": null, "master": null, "addresses": ["192.0.2.1/24"], "random": false}], "unrestored": [], "nodes": [{"kind": "disk", "name": "sda", "about": "1.0 MiB, QEMU HARDDISK", "id": "naa.5000", "pluggable": false}, {"kind": "USB", "name": "1-1", "about": "a stick", "id": "0951:1666", "pluggable": true}], "boot": ""}','2026-01-31T03:00:00.000+00:00',0.5,'done','','');
INSERT INTO "deed" VALUES(2,1,0,'{"action": "hot-plug", "text": "hot-plug 0000:01:00.0 into the running domain pv1", "address": "0000:01:00.0", "domain": "pv1", "alias": "ua-cede-nic0", "permissive": false}','hot-plug 0000:01:00.0 into the running domain pv1','{}','2026-01-31T03:00:00.000+00:00',1.5,'done','','');
INSERT INTO "deed" VALUES(3,2,0,'{"action": "unplug", "text": "unplug 0000:02:00.0 from the running domain pv2", "address": "0000:02:00.0", "domain": "pv2"}','unplug 0000:02:00.0 from the running domain pv2','{}','2026-01-31T03:00:00.000+00:00',2.0,'failed','no answer','guest-silent');
INSERT INTO "deed" VALUES(4,3,0,'{"action": "hot-plug", "text": "hot-plug 0000:01:00.0 into the running domain pv1", "address": "0000:01:00.0", "domain": "pv1", "alias": "ua-cede-nic0", "permissive": false}','hot-plug 0000:01:00.0 into the running domain pv1','{}','2026-01-31T03:00:00.000+00:00',NULL,'cut off','','');
CREATE TABLE given (
      address TEXT PRIMARY KEY, device TEXT NOT NULL, domain TEXT NOT NULL, domid INTEGER, instance INTEGER,
      boot TEXT NOT NULL);
INSERT INTO "given" VALUES('0000:01:00.0','nic0','pv1',3,7,'this');
CREATE TABLE held (address TEXT PRIMARY KEY, reason TEXT NOT NULL, since TEXT NOT NULL, boot TEXT NOT NULL);
INSERT INTO "held" VALUES('0000:02:00.0','a call hangs','2026-01-31T03:00:00.000+00:00','this');
CREATE TABLE operation (
      id TEXT PRIMARY KEY, command TEXT NOT NULL, request TEXT NOT NULL, requester TEXT NOT NULL,
      as_json INTEGER NOT NULL, started TEXT NOT NULL, after INTEGER NOT NULL, ended TEXT NOT NULL DEFAULT '',
      until INTEGER, exit INTEGER, digest TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',
      events TEXT NOT NULL DEFAULT '');
CREATE TABLE origin (address TEXT PRIMARY KEY, value TEXT NOT NULL, taken TEXT NOT NULL);
CREATE TABLE pause (
      target TEXT NOT NULL, domain TEXT NOT NULL, device TEXT NOT NULL, drained INTEGER NOT NULL, who TEXT NOT NULL,
      reason TEXT NOT NULL, since TEXT NOT NULL, until TEXT NOT NULL, PRIMARY KEY (domain, device, drained));
CREATE TABLE quarantine (
      address TEXT PRIMARY KEY, reason TEXT NOT NULL, since TEXT NOT NULL, instance INTEGER, errors TEXT NOT NULL,
      lifted INTEGER NOT NULL, boot TEXT NOT NULL);
CREATE TABLE task (
      id INTEGER PRIMARY KEY, begun TEXT NOT NULL, ended TEXT, open INTEGER NOT NULL DEFAULT 1,
      asked TEXT NOT NULL, who TEXT NOT NULL, subject TEXT NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL,
      inward INTEGER NOT NULL, back INTEGER NOT NULL, outcome TEXT NOT NULL DEFAULT 'cut off',
      message TEXT NOT NULL DEFAULT '', remedy TEXT NOT NULL DEFAULT '', device TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '');
INSERT INTO "task" VALUES(1,'2026-01-31T03:00:00.000+00:00','2026-01-31T03:00:00.000+00:00',0,'cede apply','ann as root','nic0 -> pv1','0000:01:00.0','pv1',1,1,'done','','','','');
INSERT INTO "task" VALUES(2,'2026-01-31T03:00:00.000+00:00','2026-01-31T03:00:00.000+00:00',1,'cede apply','ann as root','disk0','0000:02:00.0','pv2',0,1,'failed','','','','');
INSERT INTO "task" VALUES(3,'2026-01-31T03:00:00.000+00:00',NULL,1,'cede apply','ann as root','nic0 -> pv1','0000:01:00.0','pv1',1,1,'cut off','','','','');
CREATE INDEX task_address ON task (address);
CREATE INDEX deed_task ON deed (task);
COMMIT;
PRAGMA user_version = 8;
